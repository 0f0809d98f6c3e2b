"""Settings found by measurement, in one place. Each says what was measured and where.

Numbers that follow from the size of a register tile or of a cache line are not here but in the kernels.
"""

# Step and Program, core/step.pyx.

WORTH_THREADS = 10_000.0
"""Nanoseconds. A run shorter than this stays on one thread: waking another one costs 2 us while it waits for the next
loop, 50 us once it has gone to sleep. MobileNetV2 on one image, 2 threads, with 50,000, 20,000, 8,000 and 0 ns: 4.7,
4.4, 4.4 and 4.4 ms."""

NANOSECONDS_PER_BYTE = 0.05
"""Estimated cost of reading or writing a byte of an operand, in cache."""

EXCHANGE_PER_BYTE = 0.014
"""Nanoseconds per byte of a step's operands in a plan that fits one core's cache, if the step runs on several threads:
a part of the operands then moves between cores (74 KB took 25 us on a Xeon). Training step with one thread / two, and
the microseconds of arithmetic less exchange of an average step: the demo's network at batch 1 228 / 265 us (4.7), at
batch 2 294 / 286 (6.9), at batch 4 453 / 390 (20), at batch 8 622 / 510 (19); LeNet-5 at batch 4 171 / 210 (5.0), at
batch 8 300 / 287 (10)."""

WAIT = 7_000.0
"""Nanoseconds that the threads of a step wait for each other, in such a plan."""

CORE_CACHE = 2 << 20
"""Bytes of a plan that fits one core's cache."""

STREAM_BYTES = 16 << 20
"""Results of at least this size bypass the caches when stored: they are evicted before they are read again."""

COLD_STREAM_BYTES = 2 << 20
"""The same limit in a plan of more than COLD_PLAN_BYTES. The overwritten lines have left the last-level cache, and an
ordinary store would read them first (Xeon, batch 16, a training step of MobileNetV2: 270 -> 262 ms)."""

COLD_PLAN_BYTES = 64 << 20

# Direct convolution, conv/direct.pyx and conv/weight.pyx.

CONV_LEAST_JOBS = 16
"""Jobs that a convolution is cut into at least, if its sizes allow."""

CONFLICTING_CHANNELS = 1024
"""Pixels of at least this many channels are copied even if they could be read in place. Their distance is a multiple of
4 KiB and puts all pixels of a tile or a block into the same cache sets (EPYC, forward at 1024 channels: 312 -> 403
GFLOP/s). A weight gradient needs no copy if its tiles use up most of a pixel's cache line at once."""

DIRECT_JOB_PIXELS = 448
"""Output pixels of a job at most: enough to use each packed block of weights about 30 times."""

DIRECT_JOB_ELEMENTS = 65536
"""Elements of the input that the pixels of a job read at most: a quarter of a small L2 holds them."""

DIRECT_BLOCK_CHANNELS = 128
"""Input channels of a block. With 3x3 taps and 32 columns a block has 147 KB of weights, half of a small L2."""

DIRECT_BLOCK_CHANNELS_ONE_TAP = 512
"""The same for kernels of one tap."""

WEIGHT_BLOCK_PIXELS = 112
"""Pixels of a block of the weight gradient: long enough to hide reading and writing the tile of dw, short enough that a
panel of x and a block of dy, 21 KB, stay in L1."""

WEIGHT_JOB_OUTPUTS = 256
"""Outputs of a job of the weight gradient, for which x is copied once."""

WEIGHT_JOB_ELEMENTS = 172 << 10
"""Elements of a job's sums and of its part of x: 0.7 of a 1 MiB L2. A job takes as many input channels as this allows,
because all of them and their taps use a block of dy that is packed once."""

WEIGHT_LEAST_CHANNELS = 64
"""Input channels of a job at least: fewer are not worth packing dy."""

WEIGHT_SHARE_BLOCKS = 4
"""Blocks of pixels that are worth partial sums of their own."""

WEIGHT_TURNED = 128
"""Elements of each output's dw whose partial sums one chunk adds up and transposes."""

# Gemm, gemm/gemm.pyx.

GEMM_BLOCK_ROWS = 224
"""Rows of A of a job."""

GEMM_BLOCK_INNER = 256
"""Part of the inner axis that a packed block of B covers: 256 rows of 32 floats are 32 KB."""

GEMM_DOT_ROWS = 8
"""A product of at most this many rows is computed by dot products. One thread, transposed and by dot products, in us:
1000 columns of 1280 by 1 row 436 / 60, by 4 rows 484 / 228, by 8 rows 617 / 496; 120 columns of 400 by 8 rows
39 / 11."""

GEMM_TRANSPOSED_VECTORS = 2
"""Rows, in vectors, up to which a product of at least GEMM_MANY_WEIGHTS weights is computed as its transpose. By blocks
and transposed, 2 threads, in ms: one row of 1280 by 1000 columns 0.37 / 0.22, of 25088 by 4096 54 / 23; 16 rows of 4096
by 4096 10.9 / 6.0."""

GEMM_MANY_WEIGHTS = 1 << 20
"""Elements of B that do not stay in L2. A product with fewer is computed as its transpose if its rows are at most one
vector. One thread, by blocks and transposed, in us: 32 rows of 2048 by 1000 columns 1,180 / 1,030, of 512 by 1000
286 / 267, of 400 by 120 28 / 40; 24 rows of 512 by 1000 243 / 258."""

GEMM_LEAST_JOBS = 16
"""Jobs of a product, at least, if it has this many blocks of columns."""

# Winograd's algorithm, conv/winograd.pyx and conv/winograd_weight.pyx. Weights are counted as channels x outputs.

WINOGRAD_FEW_TILES = 128
"""Tiles of all images up to which they are few: threads would run out of blocks of tiles."""

WINOGRAD_FEW_TILES_OF_FEW_WEIGHTS = 48
"""The same for a convolution of at most WINOGRAD_FEW_WEIGHTS weights. Xeon, 32 -> 64 channels at 8x8, batch 32 (128
tiles), 2 threads: by planes 190 us, by tiles 150."""

WINOGRAD_FEW_WEIGHTS = 64 * 64
"""Weights up to which their transforms stay in L2. In the weight gradient dU then stays in L2, too, beside V and Y of a
block, and the walk by shares is taken. Xeon, batch 16, 2 threads, by planes / by shares: 64 channels at 56x56
6.2 / 5.2 ms, at 14x14 0.67 / 0.42 ms, 32 at 28x28 0.63 / 0.39 ms."""

WINOGRAD_MANY_WEIGHTS = 150 * 150
"""Weights from which the walk by planes is taken; in the weight gradient, with few tiles, the walk by outputs."""

WINOGRAD_HUGE_WEIGHTS = 400 * 400
"""Weights from which the walk by outputs is taken if tiles are few. With fewer weights it has too few jobs."""

WINOGRAD_BLOCK_TILES = 28
"""Tiles of a block of the walk by tiles, rounded down to whole register tiles: 28 with AVX-512, 24 with AVX2."""

WINOGRAD_PLANE_TILES = 32
"""Register tiles of a block of the walk by planes, at most."""

WINOGRAD_LEAST_JOBS = 16
"""If the walk by tiles has fewer blocks than this, their number is rounded up to a power of two, so that a few threads
finish together."""

WINOGRAD_OWN_BYTES = 1 << 19
"""Bytes of V of all tiles up to which few tiles are transformed by each job for itself. Xeon, 2 threads, by planes / by
tiles in parts, us: 64 -> 128 channels at 4x4, batch 8 49 / 32, batch 32 108 / 108; 128 -> 128 at 4x4, batch 8 77 / 56.
With one block of outputs, in two blocks of tiles: 64 -> 32 at 8x8, batch 8 47 / 31."""

WINOGRAD_OWN_PARTS = 4
"""Blocks of outputs, at most, for which WINOGRAD_OWN_BYTES holds. Each block is a part, a job of its own. 256 -> 256
channels, in 8 parts, by planes / by tiles in parts: 236 / 279 us."""

WINOGRAD_SUM_CHANNELS = 256
"""Channels that are summed from zero. With 512 the rms error is 4.7 times a direct convolution's."""

WINOGRAD_GROUP = 4
"""Blocks of outputs whose products the walk by tiles keeps at once."""

WINOGRAD_JOB_BLOCKS = 2
"""Blocks of outputs of a job of the walk by outputs."""

WINOGRAD_TRANSFORM_CHANNELS = 128
"""Channels whose weights a job of the walk by outputs transforms at once: 590 KB."""

# Winograd's weight gradient, conv/winograd_weight.pyx. See also WINOGRAD_FEW_TILES, WINOGRAD_FEW_WEIGHTS and
# WINOGRAD_MANY_WEIGHTS.

WINOGRAD_GRADIENT_SUM_TILES = 112
"""Tiles that are summed from zero. With 448 the rms error is 9 times a direct convolution's, with 112 it is 7 times."""

WINOGRAD_GRADIENT_SHARE_TILES = 56
"""Tiles of a block of the walk by shares. With fewer tiles in all this walk is not taken."""

WINOGRAD_GRADIENT_LEAST_SHARE = 112
"""Tiles that are worth a dU of their own in the walk by shares."""

WINOGRAD_GRADIENT_MOST_SHARES = 16
"""Shares, at most. Each has a dU of its own."""

WINOGRAD_GRADIENT_BLOCK_SUMS = 4
"""Sums of WINOGRAD_GRADIENT_SUM_TILES tiles, at most, in a block of the walk by planes. The longer the blocks, the less
often dU is read and written."""

WINOGRAD_GRADIENT_PLANE_BYTES = 1 << 19
"""Bytes of one plane of V and Y of a block of the walk by planes, so that they stay in L2."""

WINOGRAD_GRADIENT_PIECE_CHANNELS = 112
"""Channels of a piece of the walk by outputs."""

WINOGRAD_GRADIENT_OWN_TILES = 64
"""Tiles of all images up to which each job of the walk by outputs transforms V and Y itself. Xeon, 2 threads, shared /
by each job, us: 64 -> 128 channels at 4x4, batch 32 190 / 150, batch 8 84 / 53; 32 -> 64 at 8x8, batch 8 75 / 46;
128 -> 128 at 7x7, batch 8 320 / 265; 64 -> 64 at 8x8, batch 16 157 / 133, batch 32, in 128 tiles, 239 / 252."""

WINOGRAD_GRADIENT_OWN_BYTES = 5 << 17
"""Bytes of V and Y of a block that a job transforms for itself."""

WINOGRAD_GRADIENT_OWN_BLOCKS = 4
"""Blocks of tiles, at most, of such a job."""

WINOGRAD_GRADIENT_OWN_PARTS = 4
"""Blocks of outputs, at most, for which jobs transform V and Y for themselves: all of them transform the same V."""

WINOGRAD_GRADIENT_BACK_CHANNELS = 16
"""Channels that are transformed back at once."""

# Depthwise convolutions, conv/depthwise.pyx.

DEPTHWISE_JOB_ROWS = 8
"""Rows of the target of a job, at most. Neighbouring rows then read the same inputs from one core's cache."""

DEPTHWISE_LEAST_JOBS = 16
"""Jobs, at least, if there are rows enough."""

DEPTHWISE_MOST_SHARES = 64
"""Shares of the weight gradient's rows, at most: all of them are added at the end."""
