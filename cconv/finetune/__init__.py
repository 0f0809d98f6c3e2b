"""Fine-tuning: a trained network taught classes it has not seen.

    replace_head    a fresh last layer for other classes
    head_weights    its weights' names, for Trainer(trainable=...): the rest of the network is frozen
"""

from cconv.finetune.freeze import head_weights
from cconv.finetune.head import replace_head

__all__ = ["head_weights", "replace_head"]
