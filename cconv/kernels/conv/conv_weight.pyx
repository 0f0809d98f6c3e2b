"""Direct convolution: weight gradient.

    dw[k, c, t] = sum over images and output pixels o of  x[o * stride + t * dilation - pad, c] * dy[o, k]

A product of matrices whose long axis is the pixels. A register tile holds TILE_ROWS input channels x TILE_COLS
outputs of one tap and sums over the pixels of a block (tile.h, family "along"), then adds to memory: the sum
of a block starts from zero, which keeps rounding errors of long sums 2.5 to 5 times smaller, for nothing.

    job     a share of the pixel blocks x a group x some blocks of outputs x a block of input channels
    block   some rows, or some images: dy is packed by blocks of outputs; x is copied to a strip (strip.pxd) in panels of
            one tile's channels, so that a tile reads one cache line a pixel, and line after line. With one tap and no
            border x is read where it is, also from lines 4 KiB apart, which share a cache set, if a tile uses up most
            of a line at once
    outputs, channels, taps: one tile each

Jobs are split first by outputs and channels, whose sums are independent, and only then by pixels. Each share of
the pixels sums to a place of its own; a second loop adds the shares in their order and turns the result into
ONNX's layout. How many shares there are follows from the shape alone.
"""

import numpy as np

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from cconv.kernels.core.simd cimport CACHE_LINE_REALS, TILE_COLS, TILE_ROWS, VL, ceil_div, real, vf, vload
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step
from cconv.kernels.conv.strip cimport Axis, Strip, load_strip
from cconv.kernels.core.tile cimport TILE_ADD, TILE_STORE, block_vectors, pad_pixels, tile_along, tile_job
from cconv.kernels.core.turn cimport LANES, store_turned

from cconv.kernels.conv.geometry import CONFLICTING_CHANNELS, forward_part, one_row

# Pixels of a block: long enough to hide reading and writing the tile of dw, short enough that a panel of x and a block
# of dy, 21 KB, stay in L1.
BLOCK_PIXELS = 112
# Outputs of a job, for which x is copied once. Its input channels are as many as leave its sums and its x room in L2, 0.7
# of 1 MiB, since all of them and their taps use a block of dy that was packed once; fewer are not worth the packing.
JOB_OUTPUTS, JOB_ELEMENTS, LEAST_CHANNELS = 256, 172 << 10, 64
# Elements of each output's dw that are added up and turned in one chunk.
cdef Py_ssize_t TURNED = 128
# Elements of a pixel in a panel: a tile's rows in whole vectors.
cdef Py_ssize_t PANEL = (TILE_ROWS + VL - 1) // VL * VL
# Jobs that the work is cut into at the least, and pixel blocks that are worth sums of their own.
LEAST_JOBS, SHARE_BLOCKS = 16, 4


cdef struct Block:
    # A block of output pixels.
    Py_ssize_t image, images, depth, row, rows, column, columns, pixels

cdef struct Stream:
    # Cache lines of the next block that are fetched while the tiles of a block are computed: during a tile one for each of
    # its pixels. `lines` of them lie side by side; where the next block has more pixels, a run follows the other.
    const char* place
    Py_ssize_t step, row       # bytes from pixel to pixel, and more at the end of a row
    Py_ssize_t line, lines     # the next one of a pixel's, and how many
    Py_ssize_t run             # bytes from run to run
    Py_ssize_t left            # tiles that are to fetch yet


cdef inline void fetch_line(Stream* stream, tile_job* t) noexcept nogil:
    """Have a tile fetch the next line of each pixel, if any is left."""
    t.ahead, t.ahead_step, t.ahead_row = stream.place, 0, 0
    if stream.left > 0:
        t.ahead_step, t.ahead_row = stream.step, stream.row
        stream.left -= 1
        stream.line += 1
        stream.place += CACHE_LINE_REALS * sizeof(real)
        if stream.line == stream.lines:
            stream.line = 0
            stream.place += stream.run - stream.lines * CACHE_LINE_REALS * sizeof(real)


cdef struct Job:
    # What one job sums: group, block of input channels, blocks of outputs; with its buffers.
    Py_ssize_t g, b, first, last
    Py_ssize_t channels                # rows of its tiles together
    real* strip
    real* packed
    real* sums


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
    cdef Py_ssize_t tile                      # channels of a tile and panel, at the most
    cdef Py_ssize_t images, rows, row_pixels  # of a pixel block
    cdef Py_ssize_t blocks_n, blocks_h, blocks_w, pixel_blocks, shares
    cdef const Py_ssize_t* tap_offset         # of each segment in the strip, elements
    cdef Py_ssize_t segments
    cdef const Py_ssize_t* row_offset         # of each row of a block in the strip, or in x, bytes
    cdef bint merged
    cdef bint in_place                        # x is read where it is: one tap, and no border
    cdef readonly Py_ssize_t partial_size
    cdef Py_ssize_t share_size, strip_size
    cdef Py_ssize_t turned                    # channels of dw that are added up and transposed at once
    cdef list keep

    def __init__(self, geometry):
        cdef Strip* s = &self.strip
        geometry = one_row(geometry)
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
        one_tap = self.taps == 1 and not self.merged
        self.in_place = (
            one_tap and all(walk.pad == 0 and (walk.output - 1) * walk.step < walk.input for walk in part)
            and (2 * TILE_ROWS >= CACHE_LINE_REALS or width.step * geometry.channels < CONFLICTING_CHANNELS))
        if self.merged:
            self.block, self.blocks = max(1, self.run_length), 1
        else:
            room = JOB_ELEMENTS // (self.taps * min(self.outer, JOB_OUTPUTS) + 2 * BLOCK_PIXELS)
            self.blocks = max(1, ceil_div(self.inner, max(LEAST_CHANNELS, room)))
            self.block = max(1, ceil_div(self.inner, self.blocks))
            self.blocks = max(1, ceil_div(self.inner, self.block))
        self.tile = ceil_div(self.block, ceil_div(self.block, TILE_ROWS))

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

        self.column_jobs = ceil_div(self.outer, JOB_OUTPUTS)
        independent = self.groups * self.column_jobs * self.blocks
        self.shares = max(1, min(self.pixel_blocks // SHARE_BLOCKS, ceil_div(LEAST_JOBS, max(1, independent))))
        # Where there are too few pixels to share out, the outputs are, though each job then copies the same x.
        self.column_jobs = max(self.column_jobs, min(
            self.column_blocks, LEAST_JOBS // max(1, self.groups * self.blocks * self.shares)))
        self.share_size = self.groups * self.inner * self.taps * self.columns
        self.partial_size = self.shares * self.share_size

        s.plane_count = len(depth.offsets)
        s.rows = (self.rows - 1) * s.axis[1].strip_step + s.axis[1].span
        s.columns = (self.row_pixels - 1) * s.axis[2].strip_step + s.axis[2].span
        s.input_stride = self.inner * self.groups
        s.pixel_stride = self.inner if self.merged else PANEL
        s.panel = max(1, self.inner) if self.merged else self.tile
        s.planes = self.longs(depth.offsets)
        taps_w = width.offsets[:1] if self.merged else width.offsets
        offsets = [
            ((plane * s.rows + h) * s.columns + w) * s.pixel_stride
            for plane in range(s.plane_count) for h in height.offsets for w in taps_w
        ]
        self.segments = len(offsets)
        self.tap_offset = self.longs(offsets)
        plane_rows = s.plane_count * s.rows
        image_stride = plane_rows * s.columns * s.pixel_stride
        row_stride = s.axis[1].strip_step * s.columns * s.pixel_stride
        if self.in_place:
            image_stride = depth.input * height.input * width.input * s.input_stride
            row_stride = height.step * width.input * s.input_stride
        self.row_offset = self.longs([
            (n * image_stride + y * row_stride) * sizeof(real) for n in range(self.images) for y in range(self.rows)
        ])
        # One more line: copies go by whole vectors.
        s.panel_size = ceil_div(self.images * plane_rows * s.columns * s.pixel_stride, CACHE_LINE_REALS)
        s.panel_size = (s.panel_size + 1) * CACHE_LINE_REALS
        self.strip_size = s.panel_size * (1 if self.merged else 0 if self.in_place else ceil_div(self.block, self.tile))
        packed = self.images * self.rows * self.row_pixels * TILE_COLS
        self.turned = max(1, min(self.inner, TURNED // self.taps))
        self.scratch_bytes = ceil_div((self.strip_size + packed) * sizeof(real), 64) * 64

    cdef const Py_ssize_t* longs(self, values) except NULL:
        """A C array that lives as long as this step."""
        array = np.array(tuple(values) or (0,), dtype=np.intp)
        self.keep.append(array)
        return <const Py_ssize_t*><uintptr_t>array.ctypes.data

    cdef int run(self) noexcept nogil:
        self.parallel(0, self.shares * self.groups * self.column_jobs * self.blocks)
        self.parallel(1, self.groups * self.column_blocks * ceil_div(self.inner, self.turned))
        return OK

    cdef void chunk(self, int phase, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t nb
        if phase == 0:
            self.sum_share(i, thread)
        else:
            nb = i % self.column_blocks
            i //= self.column_blocks
            self.add_shares(nb, i % self.groups, i // self.groups * self.turned)

    # Parallel axis: shares of the pixels x groups x blocks of outputs x blocks of input channels; each job
    # writes partial sums of its own.
    cdef void sum_share(self, Py_ssize_t i, int thread) noexcept nogil:
        cdef Py_ssize_t share, pb, nb, begin, end
        cdef Block block, following
        cdef Stream ahead[2]
        cdef Job job
        share = i % self.shares
        i //= self.shares
        job.b = i % self.blocks
        i //= self.blocks
        job.g = i // self.column_jobs
        i %= self.column_jobs
        job.first = self.column_blocks * i // self.column_jobs
        job.last = self.column_blocks * (i + 1) // self.column_jobs
        job.channels = min(self.block, self.run_length - job.b * self.block)
        job.strip = <real*>self.scratch_of(thread)
        job.packed = job.strip + self.strip_size
        job.sums = <real*>self.operand[2] + share * self.share_size + job.g * self.inner * self.taps * self.columns
        begin = self.pixel_blocks * share // self.shares
        end = self.pixel_blocks * (share + 1) // self.shares
        if begin == end:
            self.clear(&job)
        for pb in range(begin, end):
            block = self.locate(pb)
            if not self.in_place:
                load_strip(&self.strip, <real*>self.operand[0], job.strip, block.image, block.images, block.depth,
                           block.row, block.rows, block.column, block.columns, self.channel_of(&job),
                           self.inner if self.merged else job.channels)
            following = self.locate(min(pb + 1, end - 1))
            self.look_ahead(&job, &following, &ahead[0], &ahead[1])
            for nb in range(job.first, job.last):
                self.pack(&job, &block, nb)
                self.multiply(&job, &block, nb, pb == begin, ahead)

    cdef Py_ssize_t channel_of(self, const Job* job) noexcept nogil:
        """First channel of x that a job reads."""
        return job.g * self.inner + (0 if self.merged else job.b * self.block)

    cdef Block locate(self, Py_ssize_t pb) noexcept nogil:
        """The place of a block of pixels."""
        cdef Block block
        block.column = pb % self.blocks_w * self.row_pixels
        pb //= self.blocks_w
        block.row = pb % self.blocks_h * self.rows
        pb //= self.blocks_h
        block.depth = pb % self.outputs_z
        block.image = pb // self.outputs_z * self.images
        block.images = min(self.images, self.batch - block.image)
        block.rows = min(self.rows, self.strip.axis[1].output - block.row)
        block.columns = min(self.row_pixels, self.strip.axis[2].output - block.column)
        block.pixels = block.images * block.rows * block.columns
        return block

    cdef void clear(self, const Job* job) noexcept nogil:
        cdef Py_ssize_t nb, segment
        for nb in range(job.first, job.last):
            for segment in range(self.segments):
                memset(self.place(job, nb, segment), 0, job.channels * self.width_of(nb) * sizeof(real))

    cdef Py_ssize_t width_of(self, Py_ssize_t nb) noexcept nogil:
        return block_vectors(min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)) * VL

    cdef real* place(self, const Job* job, Py_ssize_t nb, Py_ssize_t segment) noexcept nogil:
        """A job's partial sums [output block][segment][channel][column]."""
        return job.sums + nb * TILE_COLS * self.inner * self.taps + (
            segment * self.run_length + job.b * self.block) * self.width_of(nb)

    cdef void pack(self, const Job* job, const Block* block, Py_ssize_t nb) noexcept nogil:
        """dy of one block of outputs as [row][column][output], missing outputs 0: few enough to stay in L1."""
        cdef Py_ssize_t n, y, width = self.width_of(nb), live = min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS)
        cdef real* target = job.packed
        for n in range(block.images):
            for y in range(block.rows):
                pad_pixels(self.gradient_at(job, block, n, y, 0) + (nb - job.first) * TILE_COLS,
                           self.outer * self.groups, target, width, block.columns, live)
                target += block.columns * width

    cdef const real* gradient_at(self, const Job* job, const Block* block, Py_ssize_t n, Py_ssize_t y,
                                 Py_ssize_t x) noexcept nogil:
        """A pixel of dy, at the job's first output."""
        return <real*>self.operand[1] + job.g * self.outer + job.first * TILE_COLS + self.outer * self.groups * (
            (((block.image + n) * self.outputs_z + block.depth) * self.strip.axis[1].output + block.row + y)
            * self.strip.axis[2].output + block.column + x)

    cdef const real* input_at(self, const Job* job, const Block* block, Py_ssize_t n, Py_ssize_t y,
                              Py_ssize_t x) noexcept nogil:
        """The pixel of x under the last tap's row and the first one's column, or the nearest, at the job's first channel."""
        cdef const Axis* d = &self.strip.axis[0]
        cdef const Axis* h = &self.strip.axis[1]
        cdef const Axis* w = &self.strip.axis[2]
        y = max(<Py_ssize_t>0, min((block.row + y) * h.step + (h.span - 1) * h.load_step - h.pad, h.input - 1))
        x = min((block.column + x) * w.step, w.input - 1)
        n = (block.image + n) * d.input + min(block.depth * d.step, d.input - 1)
        return <real*>self.operand[0] + ((n * h.input + y) * w.input + x) * self.strip.input_stride + self.channel_of(job)

    cdef void look_ahead(self, const Job* job, const Block* block, Stream* dy, Stream* x) noexcept nogil:
        """The streams of a block."""
        cdef const Axis* h = &self.strip.axis[1]
        cdef const Axis* w = &self.strip.axis[2]
        cdef Py_ssize_t outputs = min(job.last * TILE_COLS, self.outer) - job.first * TILE_COLS
        dy.place = <const char*>self.gradient_at(job, block, 0, 0, 0)
        dy.step = self.outer * self.groups * sizeof(real)
        dy.row = dy.line = 0
        dy.lines = dy.left = ceil_div(outputs, CACHE_LINE_REALS)
        dy.run = block.pixels * dy.step
        x.place = <const char*>self.input_at(job, block, 0, 0, 0)
        x.step = self.strip.input_stride * sizeof(real)
        x.row = x.line = 0
        x.lines = x.left = ceil_div(self.inner if self.merged else job.channels, CACHE_LINE_REALS)
        if self.in_place:  # just the pixels that are read
            x.step *= w.step
            if block.images * block.rows > 1:
                x.row = h.step * w.input * self.strip.input_stride * sizeof(real) - block.columns * x.step
        else:              # all of them, also those between
            x.left *= h.step * w.step
        x.run = block.pixels * x.step

    cdef void multiply(self, const Job* job, const Block* block, Py_ssize_t nb, bint first, Stream* ahead) noexcept nogil:
        """Products of a block's pixels with one block of outputs, stored to (`first`) or added to the sums.

        Meanwhile the streams ahead are fetched, one after the other.
        """
        cdef Py_ssize_t width = self.width_of(nb), segment, begin = 0, count, half, rows
        cdef int vectors = <int>(width // VL)
        cdef const real* x = self.input_at(job, block, 0, 0, 0) if self.in_place else job.strip
        cdef const char* a
        cdef const char* next_a
        cdef real* c
        cdef tile_job t
        t.offset = self.row_offset
        t.segments = block.images * block.rows
        t.depth = block.columns
        t.row = sizeof(real)
        t.step = sizeof(real) * (
            self.strip.axis[2].step * self.strip.input_stride if self.in_place
            else self.strip.axis[2].strip_step * self.strip.pixel_stride)
        t.b = job.packed
        t.columns = width
        t.ldc = width
        t.mode = TILE_STORE if first else TILE_ADD
        while begin < job.channels:
            count = min(self.tile, job.channels - begin)
            segment = 0
            while segment < self.segments:
                a = <const char*>(x + self.tap_offset[segment])
                c = self.place(job, nb, segment) + begin * width
                if 2 * job.channels <= TILE_ROWS and segment + 1 < self.segments:  # the rows of two fill a tile
                    half, rows = count, 2 * count
                    next_a = <const char*>(x + self.tap_offset[segment + 1])
                    segment += 2
                else:
                    half, rows = (count + 1) // 2, count
                    next_a = a + half * t.row
                    segment += 1
                fetch_line(&ahead[0] if ahead[0].left > 0 else &ahead[1], &t)
                tile_along[rows][vectors - 1](&t, a, next_a, c, c + half * width)
            begin += count
            x += count if self.merged or self.in_place else self.strip.panel_size

    # Parallel axis: blocks of outputs x groups x some channels; each writes elements of dw of its own.
    cdef void add_shares(self, Py_ssize_t nb, Py_ssize_t g, Py_ssize_t first) noexcept nogil:
        """Sum the shares in their order, and turn [tap][channel][column] to [column][channel][tap]."""
        cdef Py_ssize_t width = self.width_of(nb), v, share, e = 0, j, t = 0, c = first, count
        cdef Py_ssize_t elements = min(self.turned, self.inner - first) * self.taps
        cdef Py_ssize_t live = min(<Py_ssize_t>TILE_COLS, self.outer - nb * TILE_COLS), output = self.inner * self.taps
        cdef const real* sums = <real*>self.operand[2] + (
            g * self.columns + nb * TILE_COLS) * self.inner * self.taps
        cdef real* dw = <real*>self.operand[3] + (
            (g * self.outer + nb * TILE_COLS) * self.inner + first) * self.taps
        cdef const real* p
        cdef vf total
        cdef vf totals[2][LANES]     # TILE_VECTORS of them
        while e < elements:
            count = min(<Py_ssize_t>VL, elements - e)
            for j in range(count):
                p = sums + (t * self.inner + c) * width
                for v in range(width // VL):
                    total = vload(p + v * VL)
                    for share in range(1, self.shares):
                        total = total + vload(p + share * self.share_size + v * VL)
                    totals[v][j] = total
                t += 1
                if t == self.taps:
                    t = 0
                    c += 1
            for v in range(width // VL):
                store_turned(totals[v], live - v * VL, count, dw + v * VL * output + e, output)
            e += count
