"""Cases of every loss, optimizer, schedule, metric and callback of the registry: one module for each, found by itself.

`tests/train/test_entries.py` runs them, and fails for an entry without a case.
"""

from importlib import import_module
from pkgutil import iter_modules

from train.cases.case import Case

CASES: list[Case] = [
    case
    for module in sorted(info.name for info in iter_modules(__path__) if info.name != "case")
    for case in import_module(f"train.cases.{module}").CASES
]


def cases_of(kind: type) -> list[Case]:
    return [case for case in CASES if isinstance(case, kind)]
