"""Fine-tuning: a trained network made fit for training again, and taught classes it has not seen.

doctor          what can be trained in a model, what stands in the way, what to do
repair          what an exporter took away put back, each step proved
replace_head    a fresh last layer for other classes
head_weights    its weights' names, for Trainer(trainable=...): the rest of the network is frozen

doctoring.py ──> diagnosis.py              repairing.py ──> proof.py
     |               the table                   |
     └──────> trial.py, cconv/concerns/ <────────┘        a file for each thing that is found and repaired
"""

from cconv.concerns.finding import Finding
from cconv.finetune.diagnosis import Diagnosis
from cconv.finetune.doctoring import doctor
from cconv.finetune.freeze import head_weights
from cconv.finetune.head import replace_head
from cconv.finetune.repairing import REPAIRS, Repairs, repair

__all__ = ["REPAIRS", "Diagnosis", "Finding", "Repairs", "doctor", "head_weights", "repair", "replace_head"]
