"""Check: the proof that a model computes elsewhere what it computes in cconv.

    crosscheck.py ──> compare.py     one output against another: errors, classes, verdict
          │
          ├─────────> providers.py   an onnxruntime session that runs on the named provider or not at all
          │
          └─────────> report.py      what was found, as values and as a table
"""

from cconv.check.compare import Comparison
from cconv.check.crosscheck import check
from cconv.check.inputs import random_inputs
from cconv.check.report import Report

__all__ = ["Comparison", "Report", "check", "random_inputs"]
