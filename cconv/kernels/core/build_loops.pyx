"""The sizes that this build was compiled with; see build.pyx."""

from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, real

SIZES = {"itemsize": sizeof(real), "lanes": VL, "tile_rows": TILE_ROWS, "tile_columns": TILE_COLS}
