"""Direct convolution: weight gradient.

    dw[k, c, t] = sum over images and output pixels o of  x[o * stride + t * dilation - pad, c] * dy[o, k]

This is a matrix product that sums over the pixels. A register tile holds tile_rows input channels x tile_columns output
channels of one tap. The tile sums over the pixels of a block (tile.h, family "along"), starting from zero, and is then
added to memory. Starting each block from zero makes the rounding errors of long sums 2.5 to 5 times smaller and costs
nothing.

    job     A share of the pixel blocks x a group x some blocks of output channels x a block of input channels.
    block   Some rows of pixels, or some images. dy is packed by blocks of output channels. x is copied to a strip
            (strip.pxd) in panels of one tile's channels, so that a tile reads one cache line per pixel, in order. With
            one tap and no padding, x is read in place. Pixels 4 KiB apart share a cache set; they are read in place
            only if a tile uses most of each cache line at once.
    outputs, channels, taps: one tile each.

Jobs are split first by output and input channels, whose sums are independent, and only then by pixels. Each share of
the pixels has partial sums of its own. A second loop adds the shares in a fixed order and transposes the result to
ONNX's layout. The number of shares depends only on the shape.
"""

from cconv.kernels.conv.strip cimport Strip, fill_axes
from cconv.kernels.conv.weight cimport weight_arguments
from cconv.kernels.core.build cimport Build, ceil_div
from cconv.kernels.core.loop cimport chunk_loop
from cconv.kernels.core.step cimport FLOPS_PER_LANE, OK, Step

from cconv.kernels.conv.geometry import forward_part, one_row
from cconv.kernels.schedule import settings


cdef class WeightGradient(Step):
    """Weight gradient dw of a convolution.

    Parallel over shares of the pixels, blocks of input channels, groups and blocks of output channels. The second loop,
    which adds the shares, is parallel over blocks of output channels, groups and blocks of input channels.

    Args:
        build: the Build whose compiled loops run.
        geometry: ConvGeometry.

    Operands: x (N, spatial, C) and dy (N, spatial, K) channels-last; partial sums (partial_size elements, written); dw
    (K, C/groups, taps) in ONNX's order.
    """

    cdef weight_arguments sizes
    cdef chunk_loop adding
    cdef Py_ssize_t adding_chunks
    cdef readonly Py_ssize_t partial_size

    def __init__(self, Build build, geometry):
        cdef weight_arguments* s = &self.sizes
        cdef Strip* strip = &s.strip
        geometry = one_row(geometry)
        self.work = geometry.flops / (FLOPS_PER_LANE * build.lanes)
        self.operands = 4
        self.arguments = s
        self.loop = build.loop("weight", "sum_share")
        self.adding = build.loop("weight", "add_shares")
        s.batch = geometry.batch
        s.groups = geometry.groups
        s.inner = geometry.channels // geometry.groups
        s.outer = geometry.outputs // geometry.groups
        s.taps = geometry.taps
        s.column_blocks = ceil_div(s.outer, build.tile_columns)
        s.columns = build.packed_columns(s.outer)
        part = forward_part(geometry)
        depth, height, width = part
        pixels = geometry.batch * geometry.output[0] * geometry.output[1] * geometry.output[2]

        fill_axes(strip, part)
        s.merged = s.inner <= 8 and s.groups == 1 and width.offsets == tuple(range(len(width.offsets)))
        s.run_length = s.inner * len(width.offsets) if s.merged else s.inner
        one_tap = s.taps == 1 and not s.merged
        s.in_place = (
            one_tap and all(walk.pad == 0 and (walk.output - 1) * walk.step < walk.input for walk in part)
            and (2 * build.tile_rows >= build.line
                 or width.step * geometry.channels < settings.CONFLICTING_CHANNELS))
        if s.merged:
            s.block, s.blocks = max(1, s.run_length), 1
        else:
            sums = s.taps * min(s.outer, settings.WEIGHT_JOB_OUTPUTS)
            room = settings.WEIGHT_JOB_ELEMENTS // (sums + 2 * settings.WEIGHT_BLOCK_PIXELS)
            s.blocks = max(1, ceil_div(s.inner, max(settings.WEIGHT_LEAST_CHANNELS, room)))
            s.block = max(1, ceil_div(s.inner, s.blocks))
            s.blocks = max(1, ceil_div(s.inner, s.block))
        s.tile = ceil_div(s.block, ceil_div(s.block, build.tile_rows))

        s.row_pixels = max(1, min(width.output, settings.WEIGHT_BLOCK_PIXELS))
        s.rows = max(1, min(height.output, settings.WEIGHT_BLOCK_PIXELS // s.row_pixels))
        whole = s.row_pixels == width.output and s.rows == height.output and depth.output == 1
        s.images = 1
        if whole:
            s.images = max(1, min(s.batch, settings.WEIGHT_BLOCK_PIXELS // (s.rows * s.row_pixels)))
        s.blocks_n = ceil_div(s.batch, s.images)
        s.blocks_h = ceil_div(height.output, s.rows)
        s.blocks_w = ceil_div(width.output, s.row_pixels)
        s.outputs_z = depth.output
        s.pixel_blocks = s.blocks_n * depth.output * s.blocks_h * s.blocks_w if pixels else 0

        least = settings.CONV_LEAST_JOBS
        s.column_jobs = ceil_div(s.outer, settings.WEIGHT_JOB_OUTPUTS)
        independent = s.groups * s.column_jobs * s.blocks
        s.shares = max(1, min(s.pixel_blocks // settings.WEIGHT_SHARE_BLOCKS, ceil_div(least, max(1, independent))))
        # Too few pixels for enough jobs: split the output channels further, although each job then copies the same x.
        s.column_jobs = max(s.column_jobs, min(s.column_blocks, least // max(1, s.groups * s.blocks * s.shares)))
        self.chunks = s.shares * s.groups * s.column_jobs * s.blocks
        s.share_size = s.groups * s.inner * s.taps * s.columns
        self.partial_size = s.shares * s.share_size

        strip.plane_count = len(depth.offsets)
        strip.rows = (s.rows - 1) * strip.axis[1].strip_step + strip.axis[1].span
        strip.columns = (s.row_pixels - 1) * strip.axis[2].strip_step + strip.axis[2].span
        strip.input_stride = s.inner * s.groups
        # A pixel of a panel has room for a tile's channels, rounded up to whole vectors.
        strip.pixel_stride = s.inner if s.merged else ceil_div(build.tile_rows, build.lanes) * build.lanes
        strip.panel = max(1, s.inner) if s.merged else s.tile
        strip.planes = self.longs(depth.offsets)
        taps_w = width.offsets[:1] if s.merged else width.offsets
        offsets = [
            ((plane * strip.rows + h) * strip.columns + w) * strip.pixel_stride
            for plane in range(strip.plane_count) for h in height.offsets for w in taps_w
        ]
        s.segments = len(offsets)
        s.tap_offset = self.longs(offsets)
        plane_rows = strip.plane_count * strip.rows
        image_stride = plane_rows * strip.columns * strip.pixel_stride
        row_stride = strip.axis[1].strip_step * strip.columns * strip.pixel_stride
        if s.in_place:
            image_stride = depth.input * height.input * width.input * strip.input_stride
            row_stride = height.step * width.input * strip.input_stride
        s.row_offset = self.longs([
            (n * image_stride + y * row_stride) * build.itemsize for n in range(s.images) for y in range(s.rows)
        ])
        # One cache line of slack at the end of a panel, because copies write whole vectors.
        panel_lines = ceil_div(s.images * plane_rows * strip.columns * strip.pixel_stride, build.line)
        strip.panel_size = (panel_lines + 1) * build.line
        panels = 1 if s.merged else 0 if s.in_place else ceil_div(s.block, s.tile)
        s.strip_size = strip.panel_size * panels
        packed = s.images * s.rows * s.row_pixels * build.tile_columns
        self.scratch_bytes = ceil_div((s.strip_size + packed) * build.itemsize, 64) * 64
        s.turned = max(1, min(s.inner, settings.WEIGHT_TURNED // s.taps))
        self.adding_chunks = s.groups * s.column_blocks * ceil_div(s.inner, s.turned)

    cdef int run(self) noexcept nogil:
        self.run_chunks(self.loop, self.chunks)
        self.run_chunks(self.adding, self.adding_chunks)
        return OK
