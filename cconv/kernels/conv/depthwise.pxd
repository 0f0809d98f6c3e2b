# What the classes of depthwise.pyx tell the loops of depthwise_loops.pyx.

# One axis of a gather; see AxisWalk in geometry.py.
cdef struct depthwise_axis:
    Py_ssize_t input, output, step, pad, taps, out_step, out_start
    const Py_ssize_t* offset

# One gather; depth, height, width.
cdef struct depthwise_part:
    depthwise_axis axis[3]
    Py_ssize_t weights      # where the part's packed weights begin
    Py_ssize_t rows         # of the target
    bint neighbours         # the taps of a row are neighbouring inputs

cdef struct depthwise_pack_arguments:
    Py_ssize_t channels, taps
    Py_ssize_t packed_taps       # fewer than `taps` if some belong to a residue that a short axis does not have
    const Py_ssize_t* order      # kernel index of each packed tap

cdef struct depthwise_arguments:
    Py_ssize_t channels, taps
    const depthwise_part* parts
    Py_ssize_t job_rows          # rows of the target of a job
    Py_ssize_t target[3]         # sizes of the target
    bint biased, residual, clamped, stream
    double low, high
    bint with_statistics         # finds the target's mean and squared deviations
    bint applies_derivative      # finds dz and its sums
    int slope                    # see activation.py
    double slope_low, slope_high
    Py_ssize_t pointer_bytes     # of the scratch memory; what is found comes after the pointers
    Py_ssize_t padded            # channels in whole vectors

cdef struct depthwise_weight_arguments:
    Py_ssize_t channels, taps
    depthwise_part part
    Py_ssize_t shares            # of the rows
