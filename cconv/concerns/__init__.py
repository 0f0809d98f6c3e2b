"""What can stand in the way of training: a file for each concern, which finds it in a model and, if possible, repairs
it.

    case.py        a model and what several concerns need to know of it        finding.py   what a concern reports
    concern.py     what a concern is                                           edit.py      edits of a graph
    operators.py   operators that are missing or have no gradient              inputs.py    inputs without shapes
    modes.py       nodes exported in training mode
    constants.py, tied.py, dtypes.py, batch.py, softmax.py, batchnorm.py, dropout.py        found and repaired

`Trainer` warns of some of them (train/advice.py). The doctor (finetune/doctoring.py) reports all, and one more that
lays out a training step (finetune/trial.py). `repair` (finetune/repairing.py) repairs them.
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

# In the order in which they are looked for and repaired: what makes weights of arrays comes before what changes their
# dtype, and both before what has to run the model.
MODULES = (operators, inputs, constants, tied, dtypes, batch, softmax, batchnorm, dropout, modes)

CONCERNS: dict[str, Concern] = {concern.name: concern for module in MODULES for concern in module.CONCERNS}
