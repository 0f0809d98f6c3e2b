# What the classes of abreast.pyx tell the loops of abreast_loops.pyx.

cdef struct abreast_arguments:
    Py_ssize_t m, outputs         # pixels that are taken as one; outputs of a pixel
    Py_ssize_t rows               # kernel rows of an output, of all channels
    Py_ssize_t taps, long_taps    # of a kernel row, here and in the longer convolution
    Py_ssize_t shift              # taps from one pixel's weights to the next one's
    char* weights                 # the longer convolution's weights, or their gradient, in ONNX's order
