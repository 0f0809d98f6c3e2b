# Sizes that the classes in abreast.pyx pass to the compiled loops in abreast_loops.pyx.

cdef struct abreast_arguments:
    Py_ssize_t m, outputs         # pixels merged into one; output channels of each
    Py_ssize_t rows               # kernel rows per output channel: input channels x kernel depth x kernel height
    Py_ssize_t taps, long_taps    # taps of a kernel row: of the original and of the longer kernel
    Py_ssize_t shift              # each pixel's weights begin this many taps after those of the pixel before
    char* weights                 # weights of the longer kernel, or their gradient, in ONNX's order
