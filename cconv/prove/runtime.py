"""The package onnxruntime, imported when it is first needed: loading, training and saving do without it."""

from __future__ import annotations

from types import ModuleType

from cconv.errors import MissingPackageError, explain


def onnxruntime() -> ModuleType:
    """The package.

    Raises:
        MissingPackageError: it is not installed, or cannot be loaded.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            explain(
                "cconv.prove",
                "the package onnxruntime is installed, as models are compared with it",
                str(error),
                "Install it: pip install onnxruntime.",
            )
        ) from error
    return onnxruntime
