"""Direct convolution: weight gradient.

    dw[k, c, t] = sum over images and output pixels o of  x[o * stride + t * dilation - pad, c] * dy[o, k]

A product of matrices whose long axis is the pixels. A register tile holds TILE_ROWS input channels x TILE_COLS
outputs of one tap and sums over the pixels of a block (tile.h, family "along"), then adds to memory: the sum
of a block starts from zero, which keeps rounding errors of long sums 2.5 to 5 times smaller, for nothing.

    job     a share of the pixel blocks x a group x some blocks of outputs x a block of input channels
    block   some rows, or some images: x is copied to a strip (strip.pxd), dy packed by blocks of outputs
    outputs, channels, taps: one tile each

Jobs are split first by outputs and channels, whose sums are independent, and only then by pixels. Each share of
the pixels sums to a place of its own; a second loop adds the shares in their order and turns the result into
ONNX's layout. How many shares there are follows from the shape alone.
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.simd cimport CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, real
from cconv.kernels.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.strip cimport Strip, load_strip
from cconv.kernels.tile cimport TILE_ADD, block_vectors, copy_pixels, tile_along, tile_job, zero_pixels

from cconv.kernels.geometry import forward_part

# Pixels of a block: long enough to hide reading and writing the tile of dw, short enough that the strip of
# x and the packed dy stay in L2.
BLOCK_PIXELS = 224
# Input channels of a job, and blocks of outputs whose dy it packs.
BLOCK_CHANNELS, JOB_COLUMN_BLOCKS = 128, 8
# Jobs that the work is cut into at the least.
LEAST_JOBS = 16


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef class WeightGradient(Step):
    """dw of a convolution.

    Args:
        geometry: ConvGeometry.

    Operands: x (N, spatial, C) and dy (N, spatial, K) channels-last; partial sums (partial_size elements,
    written); dw (K, C/groups, taps) in ONNX's order.
    """

    cdef Strip strip
    cdef Py_ssize_t batch, groups, inner, outer, taps, outputs_z
    cdef Py_ssize_t run_length                # merged taps x channels, or the channels of a group
    cdef Py_ssize_t block, blocks             # input channels of a job; how many blocks
    cdef Py_ssize_t columns, column_blocks    # packed columns of a group; blocks of TILE_COLS
    cdef Py_ssize_t column_jobs
    cdef Py_ssize_t images, rows, row_pixels  # of a pixel block
    cdef Py_ssize_t blocks_n, blocks_h, blocks_w, pixel_blocks, shares
    cdef const Py_ssize_t* tap_offset         # of each segment in the strip, elements
    cdef Py_ssize_t segments
    cdef const Py_ssize_t* row_offset         # of each row of a block in the strip, bytes
    cdef bint merged
    cdef readonly Py_ssize_t partial_size
    cdef Py_ssize_t share_size, strip_size
    cdef list keep

    def __init__(self, geometry):
        cdef Strip* s = &self.strip
        self.work = geometry.flops / (FLOPS_PER_LANE * VL)
        self.operands = 4
        self.keep = []
        self.batch = geometry.batch
        self.groups = geometry.groups
        self.inner = geometry.channels // geometry.groups
        self.outer = geometry.outputs // geometry.groups
        self.taps = geometry.taps
        self.column_blocks = ceil_div(self.outer, TILE_COLS)
        last = self.outer - (self.column_blocks - 1) * TILE_COLS if self.outer else 0
        self.columns = max(0, self.column_blocks - 1) * TILE_COLS + (block_vectors(last) * VL if last else 0)
        part = forward_part(geometry)
        depth, height, width = part
        pixels = geometry.batch * geometry.output[0] * geometry.output[1] * geometry.output[2]

        # An axis with one tap is stored without the elements that the stride skips.
        for a, walk in enumerate(part):
            one = len(walk.offsets) == 1
            s.axis[a].input = walk.input
            s.axis[a].output = walk.output
            s.axis[a].step = walk.step
            s.axis[a].pad = walk.pad
            s.axis[a].load_step = walk.step if one else 1
            s.axis[a].strip_step = 1 if one else walk.step
            s.axis[a].span = walk.span
        self.merged = (
            self.inner <= 8 and self.groups == 1 and width.offsets == tuple(range(len(width.offsets))))
        self.run_length = self.inner * len(width.offsets) if self.merged else self.inner
        if self.merged:
            self.block, self.blocks = max(1, self.run_length), 1
        else:
            self.blocks = max(1, ceil_div(self.inner, BLOCK_CHANNELS))
            self.block = max(1, ceil_div(self.inner, self.blocks))
            self.blocks = max(1, ceil_div(self.inner, self.block))

        self.row_pixels = max(1, min(<Py_ssize_t>width.output, <Py_ssize_t>BLOCK_PIXELS))
        self.rows = max(1, min(<Py_ssize_t>height.output, BLOCK_PIXELS // self.row_pixels))
        whole = (
            self.row_pixels == width.output and self.rows == height.output and depth.output == 1)
        self.images = max(1, min(self.batch, BLOCK_PIXELS // (self.rows * self.row_pixels))) if whole else 1
        self.blocks_n = ceil_div(self.batch, self.images)
        self.blocks_h = ceil_div(height.output, self.rows)
        self.blocks_w = ceil_div(width.output, self.row_pixels)
        self.outputs_z = depth.output
        self.pixel_blocks = self.blocks_n * depth.output * self.blocks_h * self.blocks_w if pixels else 0

        self.column_jobs = ceil_div(self.column_blocks, JOB_COLUMN_BLOCKS)
        independent = self.groups * self.column_jobs * self.blocks
        self.shares = max(1, min(self.pixel_blocks, ceil_div(LEAST_JOBS, max(1, independent))))
        self.share_size = self.groups * self.inner * self.taps * self.columns
        self.partial_size = self.shares * self.share_size

        s.plane_count = len(depth.offsets)
        s.rows = (self.rows - 1) * s.axis[1].strip_step + s.axis[1].span
        s.columns = (self.row_pixels - 1) * s.axis[2].strip_step + s.axis[2].span
        s.input_stride = self.inner * self.groups
        s.pixel_stride = self.inner if self.merged else self.block + CACHE_LINE_REALS
        s.planes = self.longs(depth.offsets)
        taps_w = width.offsets[:1] if self.merged else width.offsets
        offsets = [
            ((plane * s.rows + h) * s.columns + w) * s.pixel_stride
            for plane in range(s.plane_count) for h in height.offsets for w in taps_w
        ]
        self.segments = len(offsets)
        self.tap_offset = self.longs(offsets)
        plane_rows = s.plane_count * s.rows
        self.row_offset = self.longs([
            ((n * plane_rows + y * s.axis[1].strip_step) * s.columns) * s.pixel_stride * sizeof(real)
            for n in range(self.images) for y in range(self.rows)
        ])
        self.strip_size = ceil_div(self.images * plane_rows * s.columns * s.pixel_stride, CACHE_LINE_REALS)
        self.strip_size = (self.strip_size + 1) * CACHE_LINE_REALS
        packed = self.images * self.rows * self.row_pixels * TILE_COLS * min(
            self.column_blocks, <Py_ssize_t>JOB_COLUMN_BLOCKS)
        self.scratch_bytes = ceil_div((self.strip_size + packed) * sizeof(real), 64) * 64

    cdef const Py_ssize_t* longs(self, values) except NULL:
        """A C array that lives as long as this step."""
        array = np.array(tuple(values) or (0,), dtype=np.intp)
        self.keep.append(array)
        return <const Py_ssize_t*><uintptr_t>array.ctypes.data

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.shares * self.groups * self.column_jobs * self.blocks)
        self.parallel(1, self.groups * self.column_blocks)
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        if phase == 0:
            self.sum_share(i, thread)
        else:
            self.add_shares(i % self.column_blocks, i // self.column_blocks)

    # Parallel axis: shares of the pixels x groups x blocks of outputs x blocks of input channels; each job
    # writes partial sums of its own.
    cdef void sum_share(self, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t share, g, job, b, first, last, channels, pb, rest, n, z, h, w
        cdef Py_ssize_t images, rows, columns, nb, begin, end
        cdef real* strip = <real*>self.scratch_of(thread)
        cdef real* packed = strip + self.strip_size
        cdef real* sums
        share = i % self.shares
        i //= self.shares
        b = i % self.blocks
        i //= self.blocks
        job = i % self.column_jobs
        g = i // self.column_jobs
        first = self.column_blocks * job // self.column_jobs
        last = self.column_blocks * (job + 1) // self.column_jobs
        channels = min(self.block, self.run_length - b * self.block)
        sums = <real*>self.operand[2] + share * self.share_size + g * self.inner * self.taps * self.columns
        self.clear(sums, first, last, b, channels)
        begin = self.pixel_blocks * share // self.shares
        end = self.pixel_blocks * (share + 1) // self.shares
        for pb in range(begin, end):
            w = pb % self.blocks_w
            rest = pb // self.blocks_w
            h = rest % self.blocks_h
            rest //= self.blocks_h
            z = rest % self.outputs_z
            n = rest // self.outputs_z
            images = min(self.images, self.batch - n * self.images)
            rows = min(self.rows, self.strip.axis[1].output - h * self.rows)
            columns = min(self.row_pixels, self.strip.axis[2].output - w * self.row_pixels)
            load_strip(&self.strip, <real*>self.operand[0], strip, n * self.images, images, z, h * self.rows, rows,
                       w * self.row_pixels, columns, g * self.inner + (0 if self.merged else b * self.block),
                       self.inner if self.merged else channels)
            for nb in range(first, last):
                self.pack(packed, g, nb, n * self.images, images, z, h * self.rows, rows,
                          w * self.row_pixels, columns)
                self.multiply(strip, packed, sums, nb, b, channels, images * rows, columns)

    cdef void clear(self, real* sums, Py_ssize_t first, Py_ssize_t last, Py_ssize_t b,
                    Py_ssize_t channels) noexcept nogil:
        cdef Py_ssize_t nb, segment, width
        for nb in range(first, last):
            width = self.width_of(nb)
            for segment in range(self.segments):
                memset(self.place(sums, nb, segment, b), 0, channels * width * sizeof(real))

    cdef Py_ssize_t width_of(self, Py_ssize_t nb) noexcept nogil:
        return block_vectors(min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)) * VL

    cdef real* place(self, real* sums, Py_ssize_t nb, Py_ssize_t segment, Py_ssize_t b) noexcept nogil:
        """Partial sums [output block][segment][channel][column] of one block of channels."""
        return sums + nb * TILE_COLS * self.inner * self.taps + (
            segment * self.run_length + b * self.block) * self.width_of(nb)

    cdef void pack(self, real* packed, Py_ssize_t g, Py_ssize_t nb, Py_ssize_t image, Py_ssize_t images,
                   Py_ssize_t z, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t column,
                   Py_ssize_t columns) noexcept nogil:
        """dy of one block of outputs as [row][column][output], missing outputs 0."""
        cdef Py_ssize_t height = self.strip.axis[1].output, width = self.strip.axis[2].output
        cdef Py_ssize_t n, y, outputs = self.outer * self.groups, block = self.width_of(nb)
        cdef Py_ssize_t live = min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)
        cdef const real* source
        for n in range(image, image + images):
            for y in range(row, row + rows):
                source = <real*>self.operand[1] + g * self.outer + nb * TILE_COLS + outputs * (
                    ((n * self.outputs_z + z) * height + y) * width + column)
                copy_pixels(source, outputs, packed, block, columns, live)
                if live < block:
                    zero_pixels(packed + live, block, columns, block - live)
                packed += columns * block

    cdef void multiply(self, const real* strip, const real* packed, real* sums, Py_ssize_t nb, Py_ssize_t b,
                       Py_ssize_t channels, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
        cdef Py_ssize_t width = self.width_of(nb)
        cdef int vectors = <int>(width // VL)
        cdef Py_ssize_t tiles = (channels + TILE_ROWS - 1) // TILE_ROWS
        cdef Py_ssize_t t, segment, begin, end, half
        cdef const char* a
        cdef real* c
        cdef tile_job job
        job.offset = self.row_offset
        job.segments = rows
        job.depth = columns
        job.row = sizeof(real)
        job.step = self.strip.axis[2].strip_step * self.strip.pixel_stride * sizeof(real)
        job.b = packed
        job.columns = width
        job.ldc = width
        job.mode = TILE_ADD
        for t in range(tiles):
            begin = channels * t // tiles
            end = channels * (t + 1) // tiles
            half = (end - begin + 1) // 2
            for segment in range(self.segments):
                a = <const char*>(strip + self.tap_offset[segment] + begin)
                c = self.place(sums, nb, segment, b) + begin * width
                tile_along[end - begin][vectors - 1](&job, a, a + half * job.row, c, c + half * width)

    # Parallel axis: blocks of outputs; each writes rows of dw of its own.
    cdef void add_shares(self, Py_ssize_t nb, Py_ssize_t g) noexcept nogil:
        cdef Py_ssize_t width = self.width_of(nb), t, c, j, share
        cdef Py_ssize_t live = min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)
        cdef const real* sums = <real*>self.operand[2] + (
            g * self.columns + nb * TILE_COLS) * self.inner * self.taps
        cdef real* dw = <real*>self.operand[3] + (g * self.outer + nb * TILE_COLS) * self.inner * self.taps
        cdef real total
        for c in range(self.inner):
            for t in range(self.taps):
                for j in range(live):
                    total = 0
                    for share in range(self.shares):
                        total += sums[share * self.share_size + (t * self.inner + c) * width + j]
                    dw[(j * self.inner + c) * self.taps + t] = total
