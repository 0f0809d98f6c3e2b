# What the class of gemm.pyx tells the loops of gemm_loops.pyx.

cdef struct gemm_arguments:
    Py_ssize_t rows, columns, inner         # M, N, K
    Py_ssize_t a_row, a_step                # elements between neighbours along M, along K
    Py_ssize_t b_row, b_column              # along K, along N
    const Py_ssize_t* a_offset              # of each batch element, elements
    const Py_ssize_t* b_offset
    double alpha
    bint biased
    bint across                             # A has step 1 along K; else along M
    Py_ssize_t jobs_m, jobs_n               # "blocks": jobs of a matrix along M, along N
    Py_ssize_t column_blocks                # packed blocks of B along N
    Py_ssize_t inner_blocks                 # packed blocks along K
    Py_ssize_t packed                       # elements of a packed block
    Py_ssize_t job_columns                  # "transposed" and "dot_products": columns of C of a job
