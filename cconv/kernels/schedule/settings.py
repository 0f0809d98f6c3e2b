"""Settings found by measurement, in one place. Each says what was measured and where.

Numbers that follow from the size of a register tile or of a cache line are not here but in the kernels.
"""

# Step and Program, core/step.pyx.

WORTH_THREADS = 10_000.0
"""Nanoseconds. A run shorter than this stays on one thread: waking another one costs 2 us while it waits for the next
loop,
50 us once it has gone to sleep. MobileNetV2 on one image, 2 threads, with 50,000, 20,000, 8,000 and 0 ns: 4.7, 4.4, 4.4
and 4.4 ms."""

NANOSECONDS_PER_BYTE = 0.05
"""Estimated cost of reading or writing a byte of an operand, in cache."""

EXCHANGE_PER_BYTE = 0.014
"""Nanoseconds per byte of a step's operands in a plan that fits one core's cache, if the step runs on several threads:
a part of the operands then moves between cores (74 KB took 25 us on a Xeon). Training step with one thread / two, and
the
microseconds of arithmetic less exchange of an average step: the demo's network at batch 1 228 / 265 us (4.7), at batch
2 294 / 286 (6.9), at batch 4 453 / 390 (20), at batch 8 622 / 510 (19); LeNet-5 at batch 4 171 / 210 (5.0), at batch 8
300 / 287 (10)."""

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
