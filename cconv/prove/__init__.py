"""Check: the proof that a model computes elsewhere what it computes in cconv, and that its gradients are right.

crosscheck.py ──> compare.py     one output against another: errors, classes, verdict
      │
      ├─────────> providers.py   an onnxruntime session that runs on the named provider or not at all
      │
      ├─────────> bisect.py ──> judge.py     the first node that differs; what it should give, in float64
      │
      └─────────> report.py      what was found, as values and as a table
                      │
certificate.py ───────┘          gradients against differences of the loss in float64
"""

from cconv.prove.bisect import Divergence
from cconv.prove.certificate import Certificate, certify
from cconv.prove.compare import Comparison
from cconv.prove.crosscheck import check
from cconv.prove.inputs import random_inputs
from cconv.prove.report import Report, Run

__all__ = ["Certificate", "Comparison", "Divergence", "Report", "Run", "certify", "check", "random_inputs"]
