# Sizes that the class in gemm.pyx passes to the compiled loops in gemm_loops.pyx.

cdef struct gemm_arguments:
    Py_ssize_t rows, columns, inner         # M, N, K
    Py_ssize_t a_row, a_step                # strides of A along M, along K, in elements
    Py_ssize_t b_row, b_column              # strides of B along K, along N, in elements
    const Py_ssize_t* a_offset              # [batch] where each matrix A begins, in elements
    const Py_ssize_t* b_offset              # [batch] where each matrix B begins, in elements
    double alpha
    bint biased
    bint across                             # A is contiguous along K; else along M
    Py_ssize_t jobs_m, jobs_n               # "blocks": number of jobs per matrix along M, along N
    Py_ssize_t column_blocks                # number of packed blocks of B along N
    Py_ssize_t inner_blocks                 # number of packed blocks along K
    Py_ssize_t packed                       # number of elements of a packed block
    Py_ssize_t job_columns                  # "transposed" and "dot_products": columns of C per job
