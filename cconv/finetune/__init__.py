"""Fine-tuning: prepare an exported network for training, and train it on new classes.

doctor          reports which weights can be trained, what prevents training, and what to do about it
repair          restores what an exporter removed, and verifies each repair
replace_head    replaces the last layer by a new one for other classes
head_weights    names of the last layer's weights; Trainer(trainable=...) with these freezes the rest of the network

doctoring.py ──> diagnosis.py              repairing.py ──> proof.py
     |               the printed table           |              compares outputs before and after a repair
     └──────> trial.py, cconv/concerns/ <────────┘              one file for each kind of problem
"""

from cconv.concerns.finding import Finding
from cconv.finetune.diagnosis import Diagnosis
from cconv.finetune.doctoring import doctor
from cconv.finetune.freeze import head_weights
from cconv.finetune.head import replace_head
from cconv.finetune.repairing import REPAIRS, Repairs, repair

__all__ = ["REPAIRS", "Diagnosis", "Finding", "Repairs", "doctor", "head_weights", "repair", "replace_head"]
