"""Names of element types, for the constructors of kernels that work for several dtypes."""

KINDS = ("real", "int32", "int64")  # in the order of `Kind` in element.pxd; "real" is the build's float32 or float64


def kind_of(name: str) -> int:
    """The number of an element type, as in the enum `Kind` of element.pxd.

    Raises:
        ValueError: the name is not in KINDS.
    """
    if name not in KINDS:
        raise ValueError(f"an element is one of {', '.join(KINDS)}; found {name!r}")
    return KINDS.index(name)
