"""Every error that cconv raises on purpose.

A message names the place (node, weight, file), the rule, what was found, and what to do about it; `explain`
puts the four together so that all messages read alike. Each class also derives from the built-in that a
Python programmer would expect, so `except ValueError` keeps working.
"""

from __future__ import annotations


class CconvError(Exception):
    """Base of all errors raised by cconv."""


class ShapeError(CconvError, ValueError):
    """Arrays whose shapes break an operator's rule."""


class DTypeError(CconvError, TypeError):
    """An array of a dtype that cannot be used where it was given."""


class ValueRangeError(CconvError, ValueError):
    """A value outside its allowed range: a class index, an attribute, an option."""


class UnsupportedOpError(CconvError, NotImplementedError):
    """A model that needs an operator, or a variant of one, that cconv does not have."""


class ModelError(CconvError, ValueError):
    """A model that is not valid ONNX, or a graph that cannot be edited as asked."""


class UnsafeModelError(ModelError):
    """A model file that cconv refuses to vouch for."""


class TrainingError(CconvError, RuntimeError):
    """Training cannot go on: nothing to train, a loss that is not finite, a trainer in use elsewhere."""


class CheckpointError(CconvError, ValueError):
    """A checkpoint that is damaged or belongs to another model."""


class ScheduleError(CconvError, ValueError):
    """A table of tuned choices (CCONV_SCHEDULE) that cannot be used."""


class OutputError(CconvError, OSError):
    """A file that cannot be written."""


class MissingPackageError(CconvError, ImportError):
    """A package that this call needs is not installed."""


class TrainingWarning(UserWarning):
    """Training works, but something about the model will make its result worse than expected."""


def explain(place: str, rule: str, found: str, fix: str = "") -> str:
    """One message out of the four things that every error says."""
    text = f"{place}: {rule}; found {found}."
    return f"{text} {fix}" if fix else text


def root_of(error: BaseException) -> str:
    """The first line of what an exception was raised from in the end, for errors of other packages."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).split("\n", 1)[0]


def and_more(count: int) -> str:
    """How a message that shows one of several culprits goes on; "" where it was the only one."""
    return f", and {count} more like it" if count else ""
