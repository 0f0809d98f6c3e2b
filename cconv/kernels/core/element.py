"""Elements of arrays, as constructors of kernels name them that work for several dtypes."""

KINDS = ("real", "int32", "int64")  # the order of `Kind` in element.pxd; "real" is float32 or float64, as the build


def kind_of(name: str) -> int:
    """Number of a kind.

    Raises:
        ValueError: no such kind.
    """
    if name not in KINDS:
        raise ValueError(f"an element is one of {', '.join(KINDS)}; found {name!r}")
    return KINDS.index(name)
