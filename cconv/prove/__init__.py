"""Checks of a model: that cconv and onnxruntime compute the same outputs, and that cconv's gradients are right.

crosscheck.py ──> compare.py     compares an output of cconv with the same output of onnxruntime
      │
      ├─────────> providers.py   an onnxruntime session that runs on one provider only, without fallback
      │
      ├─────────> bisect.py ──> judge.py     finds the first node that differs; its float64 reference result
      │
      └─────────> report.py      the result of a check, as values and as a table

certificate.py                   compares gradients with finite differences of the loss in float64
"""

from cconv.prove.bisect import Divergence
from cconv.prove.certificate import Certificate, certify
from cconv.prove.compare import Comparison
from cconv.prove.crosscheck import check
from cconv.prove.inputs import random_inputs
from cconv.prove.report import Report, Run

__all__ = ["Certificate", "Comparison", "Divergence", "Report", "Run", "certify", "check", "random_inputs"]
