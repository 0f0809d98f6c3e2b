# Sizes that the classes in depthwise.pyx pass to the compiled loops in depthwise_loops.pyx.

# One axis of a gather, a C copy of AxisWalk in geometry.py.
cdef struct depthwise_axis:
    Py_ssize_t input, output, step, pad, taps, out_step, out_start
    const Py_ssize_t* offset

# One gather; its axes are depth, height, width. An input gradient has one gather per residue of the stride.
cdef struct depthwise_part:
    depthwise_axis axis[3]
    Py_ssize_t weights      # element at which the part's packed weights begin
    Py_ssize_t rows         # rows of the target, over all images
    bint neighbours         # the taps of a kernel row read consecutive inputs

cdef struct depthwise_pack_arguments:
    Py_ssize_t channels, taps
    Py_ssize_t packed_taps       # fewer than `taps` if some taps belong to a stride residue outside of a short axis
    const Py_ssize_t* order      # for each packed tap, its index in the kernel

cdef struct depthwise_arguments:
    Py_ssize_t channels, taps
    const depthwise_part* parts
    Py_ssize_t job_rows          # rows of the target that one job computes
    Py_ssize_t target[3]         # depth, height, width of the target
    bint biased, residual, clamped, stream
    double low, high
    bint with_statistics         # also compute each channel's mean and squared deviations (add_statistics)
    bint applies_derivative      # also compute dz and its sums (add_parameter_sums)
    int slope                    # how the activation's derivative is found; see activation.py
    double slope_low, slope_high
    Py_ssize_t pointer_bytes     # bytes of the pointers at the start of the scratch memory; statistics or sums follow
    Py_ssize_t padded            # channels, rounded up to whole vectors

cdef struct depthwise_weight_arguments:
    Py_ssize_t channels, taps
    depthwise_part part
    Py_ssize_t shares            # number of shares that the rows of dy are split into
