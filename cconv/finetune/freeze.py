"""head_weights: the names of the last layer's weights, to train only this layer."""

from __future__ import annotations

from cconv.finetune.head import find_head
from cconv.model import Model


def head_weights(model: Model, output: str | None = None) -> list[str]:
    """Names of the last layer's weights: `Trainer(model, trainable=head_weights(model))` freezes all other weights.

    Batch normalisation with frozen weights still normalises with the batch's statistics and updates the running
    statistics. `Trainer(..., batchnorm="frozen")` prevents both; use it if there are few images.

    Args:
        output: the output that the last layer leads to; needed only if the model has several outputs.

    Raises:
        ModelError: the layer before the output is not one that `replace_head` accepts.
    """
    head = find_head(model, output)
    return [value.name or "" for value in (head.weight, head.bias) if value is not None]
