# What the classes of pool.pyx tell the loops of pool_loops.pyx.

cdef enum:
    MAX_AXES = 3
    PART = 32     # rows that the global average sums in `real` before the sum goes to a double
    BLOCK = 256   # channels of a chunk of the global average

# Which source pixels each target pixel reads. All arrays have one entry per axis: depth, height, width.
cdef struct sliding_arguments:
    Py_ssize_t channels
    Py_ssize_t source_size[MAX_AXES]
    Py_ssize_t target_size[MAX_AXES]
    Py_ssize_t source_pixels, target_pixels    # of one image
    const Py_ssize_t* first[MAX_AXES]          # first source position of each target position
    const Py_ssize_t* count[MAX_AXES]          # how many there are
    Py_ssize_t step[MAX_AXES]                  # distance from one to the next
    Py_ssize_t pixels, per_chunk               # target pixels of all images; of a chunk
    bint single                                # each target pixel has one source pixel
    bint floored                               # MaxPool: whether `floor` is given
    double floor
    const void* divisor[MAX_AXES]              # average pooling: one real per window position of each axis

cdef struct winner_arguments:
    Py_ssize_t channels, window_count, pixel_count, pixels, per_chunk
    Py_ssize_t size[MAX_AXES]
    bint column_major

cdef struct global_arguments:
    Py_ssize_t images, pixels, channels
    Py_ssize_t blocks                # of channels, for the average
    Py_ssize_t per_chunk, ranges     # pixels of a chunk, and chunks of an image, for the gradient
