"""What the doctor looks for, a file for each concern, and what repairs it.

    concern.py     what a concern is
    operators.py   operators that are missing or have no gradient        inputs.py   inputs without shapes
    modes.py       nodes exported in training mode                       trial.py    a training step, laid out
    constants.py, tied.py, dtypes.py, batch.py, softmax.py, batchnorm.py, dropout.py        found and repaired
"""

from __future__ import annotations

from cconv.finetune.concerns import (
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
    trial,
)
from cconv.finetune.concerns.concern import Concern

# In the order in which they are looked for and repaired: what makes weights of arrays comes before what changes their
# dtype, and all of that before what has to run the model.
MODULES = (operators, inputs, constants, tied, dtypes, batch, softmax, batchnorm, dropout, modes, trial)

CONCERNS: dict[str, Concern] = {concern.name: concern for module in MODULES for concern in module.CONCERNS}
