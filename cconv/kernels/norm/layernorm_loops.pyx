"""Loops over rows that are normalised by themselves; layernorm.pyx gives the formulas and the operands."""

from libc.math cimport sqrt
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.core.simd cimport (
    VL, ceil_div, load_part, real, store_part, vf, vload, vload_n, vset, vstore, vzero,
)
from cconv.kernels.norm.layernorm cimport COLUMNS, row_norm_arguments

cdef extern from "vmath.h" nogil:
    real vtotal(vf v)

cdef enum:
    PART = 64   # vectors of a row, or rows of a block, that are summed in `real` before the sum goes to a double


cdef inline double sum_of(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, stop
    cdef double total = 0
    cdef vf s
    while i < n:
        s = vzero()
        stop = min(n, i + PART * VL)
        while i < stop:
            s = s + load_part(x + i, n - i)
            i += VL
        total += vtotal(s)
    return total


cdef void normalize_row(const row_norm_arguments* s, char** operand, Py_ssize_t row) noexcept nogil:
    cdef Py_ssize_t n = s.columns, channels = s.channels, i = 0, v, stop
    cdef const real* x = <const real*>operand[0] + row * n
    cdef const real* scale = <const real*>operand[1]
    cdef const real* bias = <const real*>operand[2]
    cdef real* y = <real*>operand[3] + row * n
    cdef double mean = 0, sums = 0, squares = 0, inverse
    cdef vf m, total, q, d, factor, shift
    if s.centered:
        mean = sum_of(x, n) / n
    m = vset(<real>mean)
    while i < n:
        total = vzero()
        q = vzero()
        stop = min(n, i + PART * VL)
        while i < stop:
            d = load_part(x + i, n - i) - m
            if n - i < VL:   # the missing lanes hold -mean, which must not be summed
                d = vload_n(<real*>&d, n - i)
            total = total + d
            q = q + d * d
            i += VL
        sums += vtotal(total)
        squares += vtotal(q)
    if s.centered:
        squares -= sums * sums / n
        mean = <real>mean + sums / n
    squares = 0 if squares < 0 else squares / n
    inverse = 1 / sqrt(squares + s.epsilon)
    if operand[4] != NULL:
        (<real*>operand[4])[row] = <real>mean
    if operand[5] != NULL:
        (<real*>operand[5])[row] = <real>inverse
    m = vset(<real>mean)
    factor = vset(<real>inverse)
    if channels or scale == NULL:
        shift = vzero()
        if scale != NULL:
            factor = factor * vset(scale[row % channels])
        if bias != NULL:
            shift = vset(bias[row % channels])
        for v in range(ceil_div(n, VL)):
            i = v * VL
            store_part(y + i, (load_part(x + i, n - i) - m) * factor + shift, n - i)
    elif bias == NULL:
        for v in range(ceil_div(n, VL)):
            i = v * VL
            store_part(y + i, (load_part(x + i, n - i) - m) * factor * load_part(scale + i, n - i), n - i)
    else:
        for v in range(ceil_div(n, VL)):
            i = v * VL
            d = (load_part(x + i, n - i) - m) * factor
            store_part(y + i, d * load_part(scale + i, n - i) + load_part(bias + i, n - i), n - i)


cdef void normalize(const void* arguments, char** operand, Py_ssize_t block, char* scratch) noexcept nogil:
    cdef const row_norm_arguments* s = <const row_norm_arguments*>arguments
    cdef Py_ssize_t row
    for row in range(block * s.row_block, min((block + 1) * s.row_block, s.rows)):
        normalize_row(s, operand, row)


cdef void gradient_row(const row_norm_arguments* s, char** operand, Py_ssize_t row, real* scales,
                       real* biases) noexcept nogil:
    """One row. Its terms are added to `scales` and `biases`, which have room for whole vectors; scales may be NULL."""
    cdef Py_ssize_t n = s.columns, channels = s.channels, i = 0, v, stop
    cdef const real* dy = <const real*>operand[0] + row * n
    cdef const real* x = <const real*>operand[1] + row * n
    cdef const real* scale = <const real*>operand[4]
    cdef real* dx = <real*>operand[5] + row * n
    cdef bint by_column = scale != NULL and not channels
    cdef double a = 0, b = 0
    cdef real mean = (<real*>operand[2])[row] if operand[2] != NULL else 0
    cdef real inverse = (<real*>operand[3])[row]
    cdef vf m = vset(mean), r = vset(inverse), total, q, g, u, slope, shift, factor
    while i < n:
        total = vzero()
        q = vzero()
        stop = min(n, i + PART * VL)
        while i < stop:   # the missing lanes are 0 in dy, and so in all that is summed
            g = load_part(dy + i, n - i)
            u = (load_part(x + i, n - i) - m) * r
            if scales != NULL:
                vstore(scales + i, vload(scales + i) + g * u)
                vstore(biases + i, vload(biases + i) + g)
            if by_column:
                g = g * load_part(scale + i, n - i)
            total = total + g
            q = q + g * u
            i += VL
        a += vtotal(total)
        b += vtotal(q)
    if channels:
        if operand[7] != NULL:
            (<real*>operand[7])[row] = <real>b
            (<real*>operand[8])[row] = <real>a
        if scale != NULL:
            inverse = inverse * scale[row % channels]
    if operand[5] == NULL:
        return
    factor = vset(inverse)
    slope = vset(<real>(b / n))
    shift = vset(<real>(a / n) if s.centered else 0)
    for v in range(ceil_div(n, VL)):
        i = v * VL
        g = load_part(dy + i, n - i)
        u = (load_part(x + i, n - i) - m) * r
        if by_column:
            g = g * load_part(scale + i, n - i)
        store_part(dx + i, (g - shift - u * slope) * factor, n - i)


cdef void gradient(const void* arguments, char** operand, Py_ssize_t block, char* scratch) noexcept nogil:
    """dx of a block of rows. If dscale and dbias belong to columns, the block's sums go to its place in partials."""
    cdef const row_norm_arguments* s = <const row_norm_arguments*>arguments
    cdef Py_ssize_t columns = s.columns, first = block * s.row_block, end = min(first + s.row_block, s.rows), row, c
    cdef Py_ssize_t padded = ceil_div(columns, VL) * VL
    cdef real* scales = <real*>scratch
    cdef real* biases = scales + padded
    cdef bint summed = operand[7] != NULL and not s.channels
    cdef double* partial = NULL
    if summed:
        partial = <double*>operand[6] + 2 * block * columns
        memset(partial, 0, 2 * columns * sizeof(double))
        memset(scales, 0, 2 * padded * sizeof(real))
    for row in range(first, end):
        gradient_row(s, operand, row, scales if summed else NULL, biases)
        if summed and ((row - first) % PART == PART - 1 or row == end - 1):
            for c in range(columns):
                partial[c] += scales[c]
                partial[columns + c] += biases[c]
            memset(scales, 0, 2 * padded * sizeof(real))


cdef void combine(const void* arguments, char** operand, Py_ssize_t i, char* scratch) noexcept nogil:
    """dscale and dbias of some columns: the blocks' sums, added in the order of the blocks."""
    cdef const row_norm_arguments* s = <const row_norm_arguments*>arguments
    cdef Py_ssize_t columns = s.columns, start = i * COLUMNS, end = min(start + COLUMNS, columns), block, c
    cdef double* total = <double*>operand[6]
    cdef double* other = total
    for block in range(1, s.blocks):
        other += 2 * columns
        for c in range(start, end):
            total[c] += other[c]
            total[columns + c] += other[columns + c]
    for c in range(start, end):
        (<real*>operand[7])[c] = <real>total[c]
        (<real*>operand[8])[c] = <real>total[columns + c]


LOOPS = {
    "normalize": <uintptr_t>normalize,
    "gradient": <uintptr_t>gradient,
    "combine": <uintptr_t>combine,
}
