"""Make cconv/data/digits.npz from scikit-learn's copy of the UCI data set of handwritten digits.

    python tools/make_digits.py

Needs scikit-learn. The file has the same bytes in each run: the arrays are stored uncompressed, so it does not depend
on the version of zlib, and all dates are the ZIP format's earliest date.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parent.parent / "cconv/data/digits.npz"


def arrays() -> dict[str, np.ndarray]:
    """images (1797, 8, 8) uint8, each value the number (0..16) of inked pixels in a 4x4 cell; labels (1797,) uint8."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return {"images": bunch.images.astype(np.uint8), "labels": bunch.target.astype(np.uint8)}


def npz(members: dict[str, np.ndarray]) -> bytes:
    """The arrays as an .npz file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


if __name__ == "__main__":
    TARGET.write_bytes(npz(arrays()))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
