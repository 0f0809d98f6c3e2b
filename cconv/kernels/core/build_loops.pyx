"""The sizes of vectors and register tiles that this build was compiled with; class Build (build.pyx) reads them."""

from cconv.kernels.core.simd cimport TILE_COLS, TILE_ROWS, VL, real

SIZES = {"itemsize": sizeof(real), "lanes": VL, "tile_rows": TILE_ROWS, "tile_columns": TILE_COLS}
