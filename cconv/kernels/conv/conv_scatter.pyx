"""Direct convolution by scattering, where few channels come out: input gradients, and forward of ConvTranspose.

conv_direct gathers: an output pixel's channels are the columns of the register tile, so that 6 channels fill 6 of 16
lanes, and pixels outside are multiplied too. Here every pixel of dy is multiplied with the taps of a kernel's row and
their channels, side by side, [outputs] @ [outputs x (tap, channel)], and added to the run of pixels of dx that they
reach. A tile's rows are pixels of dy above one another: these reach rows of dx of their own.

A job is some rows of one image's dx, summed in the thread's buffer with the border; it takes from every row of dy the
taps that reach these rows, so each product is computed once, and sums have one order.
"""

from libc.string cimport memcpy, memset

from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, ceil_div, odd_lines, real, vclamp, vf, vload_n, vset, vstore_n
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.core.tile cimport TILE_ADD, block_vectors, tile_across, tile_job


def fits(geometry):
    """Whether this algorithm can compute the geometry: one or two axes, several taps in a row, not dilated, no groups."""
    g = geometry
    return (
        g.groups == g.dilation[2] == 1 < g.kernel[2]
        and g.kernel[0] == g.input[0] == g.output[0] == 1 and g.pad[0] == 0
    )


cdef class Base(Step):
    """Sizes that packing and multiplying share."""

    cdef Py_ssize_t inner, outer         # channels that are summed over (dy's), produced (dx's)
    cdef Py_ssize_t kernel_y, kernel_x
    cdef Py_ssize_t span                 # columns: a kernel row's taps, and the channels of each
    cdef Py_ssize_t blocks, columns      # blocks of TILE_COLS of them; all packed columns

    def __init__(self, geometry, str role, *args):
        if role != "input_gradient" or not fits(geometry):
            raise ValueError(f"conv_scatter: not for the {role} of this geometry: {geometry}")
        self.inner, self.outer = geometry.outputs, geometry.channels
        _, self.kernel_y, self.kernel_x = geometry.kernel
        self.span = self.kernel_x * self.outer
        self.blocks = ceil_div(self.span, TILE_COLS)
        self.columns = (self.blocks - 1) * TILE_COLS + self.vectors_of(self.blocks - 1) * VL

    cdef int vectors_of(self, Py_ssize_t nb) noexcept nogil:
        """Packed vectors of a block of columns."""
        return block_vectors(min(<Py_ssize_t>TILE_COLS, self.span - nb * TILE_COLS))


def packed_size(geometry, str role):
    """Elements of the packed weights."""
    cdef Base base = Base(geometry, role)
    return base.kernel_y * base.inner * base.columns


cdef class Pack(Base):
    """Weights (K, C, taps) to [kernel row][block of columns][output][column], missing columns 0.

    Operands: weights, packed.
    """

    def __init__(self, geometry, str role):
        super().__init__(geometry, role)
        self.operands = 2

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.kernel_y * self.blocks)
        return OK

    # Parallel axis: kernel rows x blocks of columns.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t ky = i // self.blocks, nb = i % self.blocks, width = self.vectors_of(nb) * VL
        cdef Py_ssize_t taps = self.kernel_y * self.kernel_x, k, j, kx, c
        cdef const real* w = <real*>self.operand[0] + ky * self.kernel_x
        cdef real* packed = <real*>self.operand[1] + ky * self.inner * self.columns + nb * TILE_COLS * self.inner
        for j in range(width):
            kx = (nb * TILE_COLS + j) // self.outer
            c = (nb * TILE_COLS + j) % self.outer
            for k in range(self.inner):
                packed[k * width + j] = w[(k * self.outer + c) * taps + kx] if kx < self.kernel_x else 0


cdef class Gather(Base):
    """Input gradient (dy to dx).

    Args:
        geometry, role, bias, residual, clamp: as conv_direct.Gather's; the role is "input_gradient".

    Operands: as conv_direct.Gather's.
    """

    cdef bint biased, residual, clamped
    cdef real low, high
    cdef readonly Py_ssize_t workspace       # 0
    cdef Py_ssize_t height, width, dy_height, dy_width
    cdef Py_ssize_t stride_y, stride_x, dilation_y, pad_y, pad_x
    cdef Py_ssize_t batch, rows, jobs_y      # rows of dx of a job; jobs of an image
    cdef Py_ssize_t positions, pitch         # pixels of a row of the buffer; elements from one row to the next

    def __init__(self, geometry, str role, bint bias=False, bint residual=False, clamp=None):
        super().__init__(geometry, role)
        self.work = geometry.flops / (FLOPS_PER_LANE * VL)
        self.operands = 6
        self.biased, self.residual, self.clamped = bias, residual, clamp is not None
        if self.clamped:
            self.low, self.high = clamp
        self.batch = geometry.batch
        _, self.height, self.width = geometry.input
        _, self.dy_height, self.dy_width = geometry.output
        _, self.stride_y, self.stride_x = geometry.stride
        _, self.dilation_y, _ = geometry.dilation
        _, self.pad_y, self.pad_x = geometry.pad
        self.rows = min(self.height, TILE_ROWS * self.stride_y)
        self.jobs_y = ceil_div(self.height, max(<Py_ssize_t>1, self.rows))
        self.positions = max((self.dy_width - 1) * self.stride_x + self.kernel_x, self.pad_x + self.width)
        self.pitch = odd_lines(self.positions * self.outer)
        self.scratch_bytes = self.rows * self.pitch * <Py_ssize_t>sizeof(real)

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.batch * self.jobs_y)
        return OK

    # Parallel axis: images x blocks of rows of dx.
    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t n = i // self.jobs_y, first = i % self.jobs_y * self.rows
        cdef Py_ssize_t last = min(first + self.rows, self.height), ky, up, begin, end
        cdef real* sums = <real*>self.scratch_of(thread)
        self.start(sums, last - first)
        for ky in range(self.kernel_y):
            up = self.pad_y - ky * self.dilation_y   # row y of dx is reached from row (y + up) / stride of dy
            begin = ceil_div(first + up, self.stride_y)
            end = min(self.dy_height, ceil_div(last + up, self.stride_y))
            if begin < end:
                self.multiply(n, ky, begin, end, sums + (begin * self.stride_y - up - first) * self.pitch)
        self.finish(sums, (n * self.height + first) * self.width * self.outer, last - first)

    cdef void start(self, real* sums, Py_ssize_t rows) noexcept nogil:
        """Every pixel of the buffer: the bias, or zero."""
        cdef Py_ssize_t size = self.positions * self.outer * <Py_ssize_t>sizeof(real), p, y
        memset(sums, 0, size)
        if self.biased:
            for p in range(self.positions):
                memcpy(sums + p * self.outer, self.operand[2], self.outer * sizeof(real))
        for y in range(1, rows):
            memcpy(sums + y * self.pitch, sums, size)

    cdef void multiply(self, Py_ssize_t n, Py_ssize_t ky, Py_ssize_t first, Py_ssize_t last, real* sums) noexcept nogil:
        """Add to the buffer what rows first..last-1 of dy give by one row of the kernel; `sums` is the row of the first."""
        cdef Py_ssize_t dy_row = self.dy_width * self.inner, zero = 0, nb, t, x, begin, end, half
        cdef Py_ssize_t tiles = ceil_div(last - first, TILE_ROWS)
        cdef const real* dy = <real*>self.operand[0] + (n * self.dy_height + first) * dy_row
        cdef const char* a
        cdef real* c
        cdef tile_job job
        job.offset = &zero
        job.segments = 1
        job.depth = self.inner
        job.row = dy_row * sizeof(real)
        job.step = sizeof(real)
        job.ldc = self.stride_y * self.pitch
        job.mode = TILE_ADD
        job.ahead = <const char*>dy
        job.ahead_step = 0
        for nb in range(self.blocks):
            job.b = <real*>self.operand[1] + ky * self.inner * self.columns + nb * TILE_COLS * self.inner
            job.columns = min(<Py_ssize_t>TILE_COLS, self.span - nb * TILE_COLS)
            for t in range(tiles):
                begin = (last - first) * t // tiles
                end = (last - first) * (t + 1) // tiles
                half = (end - begin + 1) // 2
                a = <const char*>(dy + begin * dy_row)
                c = sums + begin * job.ldc + nb * TILE_COLS
                for x in range(self.dy_width):
                    tile_across[end - begin][self.vectors_of(nb) - 1](&job, a, a + half * job.row, c, c + half * job.ldc)
                    a += self.inner * sizeof(real)
                    c += self.stride_x * self.outer

    cdef void finish(self, const real* sums, Py_ssize_t place, Py_ssize_t rows) noexcept nogil:
        """The buffer without its border to rows of the target, the first at `place`."""
        cdef Py_ssize_t size = self.width * self.outer, y, j, count
        cdef const real* s
        cdef real* target
        cdef vf value, low = vset(self.low), high = vset(self.high)
        for y in range(rows):
            s = sums + y * self.pitch + self.pad_x * self.outer
            target = <real*>self.operand[4] + place + y * size
            j = 0
            while j < size:
                count = min(<Py_ssize_t>VL, size - j)
                value = vload_n(s + j, count)
                if self.residual:
                    value += vload_n(<real*>self.operand[3] + place + y * size + j, count)
                if self.clamped:
                    value = vclamp(value, low, high)
                vstore_n(target + j, value, count)
                j += VL
