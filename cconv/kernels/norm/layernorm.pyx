"""Normalisation of each row by itself: layer normalisation, RMS normalisation, instance normalisation of row-major maps.

    y = (x - mean) * inverse * scale + bias        x (rows, columns)

A row's mean is found first, then the sums of deviations from it and of their squares, as in norm.pyx; the row is then
in the nearest cache, so that x is read from memory once. Sums run over PART vectors in `real`, from there on in double.
Parallel over blocks of rows. The gradients of scale and bias are summed per block, to a place of its own, and added in
the order of the blocks.

Scale and bias belong to the columns, or, with `channels` not 0, to the rows: row r then has the channel r mod channels.
"""

from libc.math cimport sqrt
from libc.string cimport memset

from cconv.kernels.core.simd cimport VL, real, vf, vload, vload_n, vset, vstore, vstore_n, vzero
from cconv.kernels.core.step cimport OK, Step

cdef extern from "vmath.h" nogil:
    real vtotal(vf v)

cdef enum:
    PART = 64       # vectors of a row summed in `real`; rows of a block whose gradients are
    BLOCKS = 128    # most blocks of rows: each has its own sums of the parameters' gradients

# Elements of a chunk.
CHUNK = 32768


cdef inline vf load(const real* p, Py_ssize_t n) noexcept nogil:
    """The next min(n, VL) elements; missing lanes are 0."""
    return vload(p) if n >= VL else vload_n(p, n)


cdef inline void store(real* p, vf v, Py_ssize_t n) noexcept nogil:
    if n >= VL:
        vstore(p, v)
    else:
        vstore_n(p, v, n)


cdef inline double sum_of(const real* x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0, stop
    cdef double total = 0
    cdef vf s
    while i < n:
        s = vzero()
        stop = min(n, i + PART * VL)
        while i < stop:
            s = s + load(x + i, n - i)
            i += VL
        total += vtotal(s)
    return total


cdef class RowSteps(Step):
    """Base of steps over (rows, columns), cut into blocks of rows.

    Args:
        centered: whether the mean is subtracted; not in RMS normalisation.
        channels: 0, or how many rows there are before scale and bias, which then belong to rows, start again.

    Raises:
        ValueError: rows without columns, or that do not make up whole channels.
    """

    cdef Py_ssize_t rows, columns, channels, row_block
    cdef readonly Py_ssize_t blocks
    cdef bint centered

    def __init__(self, Py_ssize_t rows, Py_ssize_t columns, bint centered=True, Py_ssize_t channels=0):
        if columns < 1 or (channels and rows % channels):
            raise ValueError(
                f"{type(self).__name__}: at least one column, and rows of whole channels; "
                f"found {rows} rows of {columns} columns, {channels} channels"
            )
        self.rows, self.columns, self.centered, self.channels = rows, columns, centered, channels
        self.row_block = max(1, CHUNK // columns, (rows + BLOCKS - 1) // BLOCKS)
        self.blocks = (rows + self.row_block - 1) // self.row_block


cdef class RowNorm(RowSteps):
    """y as above, with inverse = 1 / sqrt(variance + epsilon), or without a mean 1 / sqrt(mean of x^2 + epsilon).

    Operands: x (rows, columns), scale, bias (columns,) or (channels,), y (rows, columns), mean, inverse (rows,). Scale
    and bias may be absent (1 and 0), and so may mean and inverse where nobody reads them; y may be x.
    """

    cdef double epsilon

    def __init__(self, Py_ssize_t rows, Py_ssize_t columns, double epsilon, bint centered=True,
                 Py_ssize_t channels=0):
        RowSteps.__init__(self, rows, columns, centered, channels)
        self.operands = 6
        self.epsilon = epsilon

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.blocks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t block, int thread) noexcept nogil:
        cdef Py_ssize_t row
        for row in range(block * self.row_block, min((block + 1) * self.row_block, self.rows)):
            self.normalize(row)

    cdef void normalize(self, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t n = self.columns, i = 0, v, stop
        cdef const real* x = <const real*>self.operand[0] + row * n
        cdef const real* scale = <const real*>self.operand[1]
        cdef const real* bias = <const real*>self.operand[2]
        cdef real* y = <real*>self.operand[3] + row * n
        cdef double mean = 0, sums = 0, squares = 0, inverse
        cdef vf m, s, q, d, factor, shift
        if self.centered:
            mean = sum_of(x, n) / n
        m = vset(<real>mean)
        while i < n:
            s = vzero()
            q = vzero()
            stop = min(n, i + PART * VL)
            while i < stop:
                d = load(x + i, n - i) - m
                if n - i < VL:   # missing lanes are 0, not -mean
                    d = vload_n(<real*>&d, n - i)
                s = s + d
                q = q + d * d
                i += VL
            sums += vtotal(s)
            squares += vtotal(q)
        if self.centered:
            squares -= sums * sums / n
            mean = <real>mean + sums / n
        squares = 0 if squares < 0 else squares / n
        inverse = 1 / sqrt(squares + self.epsilon)
        if self.operand[4] != NULL:
            (<real*>self.operand[4])[row] = <real>mean
        if self.operand[5] != NULL:
            (<real*>self.operand[5])[row] = <real>inverse
        m = vset(<real>mean)
        factor = vset(<real>inverse)
        if self.channels or scale == NULL:
            shift = vzero()
            if scale != NULL:
                factor = factor * vset(scale[row % self.channels])
            if bias != NULL:
                shift = vset(bias[row % self.channels])
            for v in range((n + VL - 1) // VL):
                i = v * VL
                store(y + i, (load(x + i, n - i) - m) * factor + shift, n - i)
        elif bias == NULL:
            for v in range((n + VL - 1) // VL):
                i = v * VL
                store(y + i, (load(x + i, n - i) - m) * factor * load(scale + i, n - i), n - i)
        else:
            for v in range((n + VL - 1) // VL):
                i = v * VL
                d = (load(x + i, n - i) - m) * factor
                store(y + i, d * load(scale + i, n - i) + load(bias + i, n - i), n - i)


cdef class RowNormGradient(RowSteps):
    """With u = (x - mean) * inverse and g = dy * scale,

        dx = inverse * (g - mean(g) - u * mean(g * u))     without the first mean where x is not centered
        dscale = sum of dy * u, dbias = sum of dy          over the rows; or, with channels, of each row

    Operands: dy, x (rows, columns), mean, inverse (rows,), scale, dx (rows, columns), partials (blocks, 2, columns)
    double, dscale, dbias (columns,) or (rows,). Absent may be mean (0), scale (1), dx, and both dscale and dbias; with
    these or with channels, partials. dx may be dy or x.
    """

    def __init__(self, Py_ssize_t rows, Py_ssize_t columns, bint centered=True, Py_ssize_t channels=0):
        RowSteps.__init__(self, rows, columns, centered, channels)
        self.operands = 9
        self.scratch_bytes = 0 if channels else 2 * ((columns + VL - 1) // VL * VL) * sizeof(real)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.blocks)
        if self.operand[7] != NULL and not self.channels:
            self.parallel(1, (self.columns + 1023) // 1024)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t block, int thread) noexcept nogil:
        cdef Py_ssize_t first = block * self.row_block, row, c
        cdef Py_ssize_t padded = (self.columns + VL - 1) // VL * VL
        cdef real* scales = <real*>self.scratch_of(thread)
        cdef real* biases = scales + padded
        cdef bint summed = self.operand[7] != NULL and not self.channels
        cdef double* partial = NULL
        if phase == 1:
            self.combine(block)
            return
        if summed:
            partial = <double*>self.operand[6] + 2 * block * self.columns
            memset(partial, 0, 2 * self.columns * sizeof(double))
            memset(scales, 0, 2 * padded * sizeof(real))
        for row in range(first, min(first + self.row_block, self.rows)):
            self.differentiate(row, scales if summed else NULL, biases)
            if summed and ((row - first) % PART == PART - 1 or row == min(first + self.row_block, self.rows) - 1):
                for c in range(self.columns):
                    partial[c] += scales[c]
                    partial[self.columns + c] += biases[c]
                memset(scales, 0, 2 * padded * sizeof(real))

    cdef void differentiate(self, Py_ssize_t row, real* scales, real* biases) noexcept nogil:
        """One row; its terms are added to `scales` and `biases`, which have room for whole vectors, if they are there."""
        cdef Py_ssize_t n = self.columns, i = 0, v, stop
        cdef const real* dy = <const real*>self.operand[0] + row * n
        cdef const real* x = <const real*>self.operand[1] + row * n
        cdef const real* scale = <const real*>self.operand[4]
        cdef real* dx = <real*>self.operand[5] + row * n
        cdef bint by_column = scale != NULL and not self.channels
        cdef double a = 0, b = 0
        cdef real mean = (<real*>self.operand[2])[row] if self.operand[2] != NULL else 0
        cdef real inverse = (<real*>self.operand[3])[row]
        cdef vf m = vset(mean), r = vset(inverse), s, q, g, u, slope, shift, factor
        while i < n:
            s = vzero()
            q = vzero()
            stop = min(n, i + PART * VL)
            while i < stop:   # lanes that are missing are 0 in dy, and so in all that is summed
                g = load(dy + i, n - i)
                u = (load(x + i, n - i) - m) * r
                if scales != NULL:
                    vstore(scales + i, vload(scales + i) + g * u)
                    vstore(biases + i, vload(biases + i) + g)
                if by_column:
                    g = g * load(scale + i, n - i)
                s = s + g
                q = q + g * u
                i += VL
            a += vtotal(s)
            b += vtotal(q)
        if self.channels:
            if self.operand[7] != NULL:
                (<real*>self.operand[7])[row] = <real>b
                (<real*>self.operand[8])[row] = <real>a
            if scale != NULL:
                inverse = inverse * scale[row % self.channels]
        if self.operand[5] == NULL:
            return
        factor = vset(inverse)
        slope = vset(<real>(b / n))
        shift = vset(<real>(a / n) if self.centered else 0)
        for v in range((n + VL - 1) // VL):
            i = v * VL
            g = load(dy + i, n - i)
            u = (load(x + i, n - i) - m) * r
            if by_column:
                g = g * load(scale + i, n - i)
            store(dx + i, (g - shift - u * slope) * factor, n - i)

    cdef void combine(self, Py_ssize_t part) noexcept nogil:
        """The parameters' gradients in some columns out of the blocks' sums, in the order of the blocks."""
        cdef Py_ssize_t c, block, start = part * 1024, end = min(start + 1024, self.columns)
        cdef double* total = <double*>self.operand[6]
        cdef double* other = total
        for block in range(1, self.blocks):
            other += 2 * self.columns
            for c in range(start, end):
                total[c] += other[c]
                total[self.columns + c] += other[self.columns + c]
        for c in range(start, end):
            (<real*>self.operand[7])[c] = <real>total[c]
            (<real*>self.operand[8])[c] = <real>total[self.columns + c]
