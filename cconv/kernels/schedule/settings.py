"""Tuning constants that were found by measurement. Each docstring gives the measurement, if one was recorded.

Numbers that follow from the size of a register tile or of a cache line are in the kernels instead.
"""

# Settings of Step and Program, core/step.pyx.

WORTH_THREADS = 10_000.0
"""Nanoseconds. A step whose estimated run time is shorter stays on one thread. Starting a second thread costs 2 us if
it spins, waiting for the next loop, and 50 us if it sleeps. MobileNetV2 on one image with 2 threads took 4.7, 4.4, 4.4
and 4.4 ms with this setting at 50,000, 20,000, 8,000 and 0 ns."""

NANOSECONDS_PER_BYTE = 0.05
"""Estimated time to read or write one byte of an operand that is in the cache."""

EXCHANGE_PER_BYTE = 0.014
"""Cost of running a step on several threads, in nanoseconds per byte of its operands, if the plan fits one core's
cache. A part of the operands then moves between cores (74 KB took 25 us on a Xeon).

Measured times of a training step in us, with one / two threads; in brackets the microseconds of arithmetic minus
exchange of an average step. The demo's network: batch 1 228 / 265 (4.7), batch 2 294 / 286 (6.9), batch 4 453 / 390
(20), batch 8 622 / 510 (19). LeNet-5: batch 4 171 / 210 (5.0), batch 8 300 / 287 (10)."""

WAIT = 7_000.0
"""Nanoseconds that the threads of a step wait for each other, in a plan that fits one core's cache."""

CORE_CACHE = 2 << 20
"""A plan of at most this many bytes is assumed to fit one core's cache."""

STREAM_BYTES = 16 << 20
"""Results of at least this many bytes bypass the caches when stored, because they would be evicted before they are
read."""

COLD_STREAM_BYTES = 2 << 20
"""Replaces STREAM_BYTES in a plan of more than COLD_PLAN_BYTES. The cache lines that a step overwrites have then left
the last-level cache, and an ordinary store would read them from memory first. Xeon, batch 16, a training step of
MobileNetV2: 270 ms with STREAM_BYTES, 262 ms with this limit."""

COLD_PLAN_BYTES = 64 << 20
"""A plan of more than this many bytes is assumed to exceed the last-level cache."""

# Settings of direct convolution, conv/direct.pyx and conv/weight.pyx. "Outputs" are output channels.

CONV_LEAST_JOBS = 16
"""A convolution is split into at least this many parallel jobs, if its sizes allow."""

CONFLICTING_CHANNELS = 1024
"""Pixels of at least this many channels are copied even if they could be read in place. Pixels that are a multiple of
4 KiB apart share the same cache sets (EPYC, forward pass with 1024 channels: 312 GFLOP/s in place, 403 with the copy).
A weight gradient needs no copy if its tiles use most of a pixel's cache line at once."""

DIRECT_JOB_PIXELS = 448
"""Direct convolution: most output pixels per job, enough to use each packed block of weights about 30 times."""

DIRECT_JOB_ELEMENTS = 65536
"""Direct convolution: most input elements that a job reads per block of channels, 256 KiB in float32, a quarter of a 1
MiB L2."""

DIRECT_BLOCK_CHANNELS = 128
"""Direct convolution: most input channels per block. With 3x3 taps and 32 output channels, the weights of a block are
147 KB, half of a small L2."""

DIRECT_BLOCK_CHANNELS_ONE_TAP = 512
"""Direct convolution with 1x1 kernels: most input channels per block."""

WEIGHT_BLOCK_PIXELS = 112
"""Most pixels per block in the weight gradient: enough to hide the loads and stores of the tile of dw, and few enough
that a panel of x and a block of dy (21 KB together) stay in L1."""

WEIGHT_JOB_OUTPUTS = 256
"""Most output channels per job in the weight gradient. x is copied once for all of them."""

WEIGHT_JOB_ELEMENTS = 172 << 10
"""Most elements of a job's partial sums and its part of x in the weight gradient: 0.7 of a 1 MiB L2. A job takes as
many input channels as this limit allows, because all of them reuse a block of dy that is packed once."""

WEIGHT_LEAST_CHANNELS = 64
"""Fewest input channels per job in the weight gradient: for fewer, packing dy costs too much."""

WEIGHT_SHARE_BLOCKS = 4
"""Fewest pixel blocks per share in the weight gradient. Each share has partial sums of its own, which must be added."""

WEIGHT_TURNED = 128
"""Elements of dw per output channel whose partial sums one chunk adds up and transposes."""

# Settings of Gemm, gemm/gemm.pyx: C = A @ B.

GEMM_BLOCK_ROWS = 224
"""Gemm by blocks: most rows of A per job."""

GEMM_BLOCK_INNER = 256
"""Gemm by blocks: most rows of B (elements along the inner axis) per packed block: 256 rows of 32 floats are 32 KB."""

GEMM_DOT_ROWS = 8
"""A product with at most this many rows of A is computed by dot products, not as its transpose. One thread, times in
us, transposed / dot products: B of 1280 x 1000 with 1 row of A 436 / 60, 4 rows 484 / 228, 8 rows 617 / 496; B of 400 x
120 with 8 rows 39 / 11."""

GEMM_TRANSPOSED_VECTORS = 2
"""If B has at least GEMM_MANY_WEIGHTS elements, a product with at most this many vectors of rows of A is computed as
its transpose. 2 threads, times in ms, by blocks / transposed: 1 row of A with B of 1280 x 1000 0.37 / 0.22, with B of
25088 x 4096 54 / 23; 16 rows with B of 4096 x 4096 10.9 / 6.0."""

GEMM_MANY_WEIGHTS = 1 << 20
"""A matrix B of at least this many elements does not stay in L2. If B is smaller, a product is computed as its
transpose only if A has at most one vector of rows. One thread, times in us, by blocks / transposed: 32 rows of A with B
of 2048 x 1000 1,180 / 1,030, of 512 x 1000 286 / 267, of 400 x 120 28 / 40; 24 rows with B of 512 x 1000 243 / 258."""

GEMM_LEAST_JOBS = 16
"""A product is split into at least this many parallel jobs, if it has this many blocks of columns."""

# Settings of Winograd's algorithm, conv/winograd.pyx and conv/winograd_weight.pyx. There "weights" are counted as input
# channels x output channels, "outputs" are output channels, and a tile is 4x4 output pixels. A "walk" is an order of
# the loops over tiles, planes and outputs.

WINOGRAD_FEW_TILES = 128
"""A convolution with at most this many tiles in all images has few tiles: blocks of tiles would not keep all threads
busy."""

WINOGRAD_FEW_TILES_OF_FEW_WEIGHTS = 48
"""Replaces WINOGRAD_FEW_TILES for a convolution of at most WINOGRAD_FEW_WEIGHTS weights. Xeon, 32 -> 64 channels at
8x8, batch 32 (128 tiles), 2 threads: the walk by planes took 190 us, the walk by tiles 150 us."""

WINOGRAD_FEW_WEIGHTS = 64 * 64
"""The transforms of at most this many weights stay in L2. In the weight gradient, dU (the transformed gradient) then
also stays in L2, beside V and Y of a block, and the walk by shares is used. Xeon, batch 16, 2 threads, by planes / by
shares: 64 channels at 56x56 6.2 / 5.2 ms, at 14x14 0.67 / 0.42 ms, 32 channels at 28x28 0.63 / 0.39 ms."""

WINOGRAD_MANY_WEIGHTS = 150 * 150
"""With at least this many weights, the walk by planes is used; in a weight gradient with few tiles, the walk by
outputs."""

WINOGRAD_HUGE_WEIGHTS = 400 * 400
"""With at least this many weights and few tiles, the walk by outputs is used. With fewer weights it has too few
jobs."""

WINOGRAD_BLOCK_TILES = 28
"""Winograd, walk by tiles: most tiles per block, rounded down to whole register tiles: 28 with AVX-512, 24 with
AVX2."""

WINOGRAD_PLANE_TILES = 32
"""Winograd, walk by planes: most tiles per block, in units of the register tile's rows (14 or 6 Winograd tiles)."""

WINOGRAD_LEAST_JOBS = 16
"""Winograd: if the walk by tiles has fewer blocks than this, their number is rounded up to a power of two, so that a
few threads finish together."""

WINOGRAD_OWN_BYTES = 1 << 19
"""Winograd: if there are few tiles, and V (the transformed input tiles) has at most this many bytes, each job
transforms all tiles itself and computes a part of the outputs. Xeon, 2 threads, times in us, walk by planes / by tiles
in parts: 64 -> 128 channels at 4x4, batch 8 49 / 32, batch 32 108 / 108; 128 -> 128 at 4x4, batch 8 77 / 56. With one
block of outputs, in two blocks of tiles: 64 -> 32 at 8x8, batch 8 47 / 31."""

WINOGRAD_OWN_PARTS = 4
"""Most blocks of outputs for which WINOGRAD_OWN_BYTES applies. Each block is a part, which is one job. 256 -> 256
channels, in 8 parts, walk by planes / by tiles in parts: 236 / 279 us."""

WINOGRAD_SUM_CHANNELS = 256
"""Winograd: most channels per sum in registers; longer sums are split, and the partial sums are added in memory. With
512 channels the rms error is 4.7 times that of a direct convolution."""

WINOGRAD_GROUP = 4
"""Winograd, walk by tiles: most blocks of output channels whose products are kept in memory at the same time."""

WINOGRAD_JOB_BLOCKS = 2
"""Winograd, walk by outputs: most blocks of output channels per job."""

WINOGRAD_TRANSFORM_CHANNELS = 128
"""Winograd, walk by outputs: most input channels whose weights a job transforms at a time: 590 KB of transformed
weights."""

# Winograd's weight gradient, conv/winograd_weight.pyx. See also WINOGRAD_FEW_TILES, WINOGRAD_FEW_WEIGHTS and
# WINOGRAD_MANY_WEIGHTS.

WINOGRAD_GRADIENT_SUM_TILES = 112
"""Winograd's weight gradient: most tiles per sum in registers; longer sums are split, and the partial sums are added in
memory. The rms error is 7 times that of a direct convolution with 112 tiles, 9 times with 448."""

WINOGRAD_GRADIENT_SHARE_TILES = 56
"""Winograd's weight gradient, walk by shares: most tiles per block. With fewer tiles in total this walk is not used."""

WINOGRAD_GRADIENT_LEAST_SHARE = 112
"""Winograd's weight gradient, walk by shares: tiles per share, before the number of shares is rounded up to a power of
two. Each share has a dU (transformed gradient) of its own."""

WINOGRAD_GRADIENT_MOST_SHARES = 16
"""Winograd's weight gradient, walk by shares: most shares. Each share has a dU (transformed gradient) of its own."""

WINOGRAD_GRADIENT_BLOCK_SUMS = 4
"""Winograd's weight gradient, walk by planes: most sums of WINOGRAD_GRADIENT_SUM_TILES tiles per block. With longer
blocks, dU (the transformed gradient) is read and written less often."""

WINOGRAD_GRADIENT_PLANE_BYTES = 1 << 19
"""Winograd's weight gradient, walk by planes: most bytes of one plane of a block's V and Y (transformed x and dy), so
that they stay in L2."""

WINOGRAD_GRADIENT_PIECE_CHANNELS = 112
"""Winograd's weight gradient, walk by outputs: most input channels per job."""

WINOGRAD_GRADIENT_OWN_TILES = 64
"""Winograd's weight gradient: with at most this many tiles in all images, each job of the walk by outputs transforms x
and dy (to V and Y) itself. Xeon, 2 threads, times in us, transforms shared / in each job: 64 -> 128 channels at 4x4,
batch 32 190 / 150, batch 8 84 / 53; 32 -> 64 at 8x8, batch 8 75 / 46; 128 -> 128 at 7x7, batch 8 320 / 265; 64 -> 64 at
8x8, batch 16 157 / 133, batch 32 (128 tiles) 239 / 252."""

WINOGRAD_GRADIENT_OWN_BYTES = 5 << 17
"""Winograd's weight gradient, walk by outputs: most bytes of a block's V and Y (transformed x and dy), if each job
transforms them itself."""

WINOGRAD_GRADIENT_OWN_BLOCKS = 4
"""Winograd's weight gradient, walk by outputs: most blocks of tiles per job, if each job transforms x and dy itself."""

WINOGRAD_GRADIENT_OWN_PARTS = 4
"""Winograd's weight gradient, walk by outputs: most blocks of output channels for which each job transforms x and dy
itself. All these jobs repeat the transform of x."""

WINOGRAD_GRADIENT_BACK_CHANNELS = 16
"""Winograd's weight gradient: input channels of dw per chunk of the final inverse transform."""

# Settings of depthwise convolutions, conv/depthwise.pyx.

DEPTHWISE_JOB_ROWS = 8
"""Depthwise convolution: most rows of the target per job. Neighbouring rows read some of the same inputs, which are
then in one core's cache."""

DEPTHWISE_LEAST_JOBS = 16
"""A depthwise convolution is split into at least this many parallel jobs, if it has enough rows."""

DEPTHWISE_MOST_SHARES = 64
"""Depthwise weight gradient: most shares that the rows of dy are split into. Their partial sums must be added at the
end."""
