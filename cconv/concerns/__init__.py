"""Concerns: problems of an exported model that prevent or harm training.

Each file finds one kind of problem and, if possible, repairs it.

    case.py        a model and facts about it that several concerns use        finding.py   one reported problem
    concern.py     the interface of a concern                                  edit.py      helpers that edit a graph
    operators.py   operators that are missing or have no gradient              inputs.py    inputs without shapes
    modes.py       nodes exported in training mode
    constants.py, tied.py, dtypes.py, batch.py, softmax.py, batchnorm.py, dropout.py: each both finds and repairs

`Trainer` warns about some concerns (train/advice.py). The doctor (finetune/doctoring.py) reports all of them, and also
plans a training step (finetune/trial.py). `repair` (finetune/repairing.py) applies the repairs.
"""

from __future__ import annotations

from cconv.concerns import (
    batch,
    batchnorm,
    constants,
    dropout,
    dtypes,
    inputs,
    modes,
    operators,
    softmax,
    tied,
)
from cconv.concerns.concern import Concern

# Concerns are searched for and repaired in this order. Repairs that turn arrays into weights come before the change of
# dtype. Both come before repairs that have to run the model.
MODULES = (operators, inputs, constants, tied, dtypes, batch, softmax, batchnorm, dropout, modes)

CONCERNS: dict[str, Concern] = {concern.name: concern for module in MODULES for concern in module.CONCERNS}
