"""Which weights to train."""

from __future__ import annotations

from cconv.finetune.head import find_head
from cconv.model import Model


def head_weights(model: Model, output: str | None = None) -> list[str]:
    """Names of the last layer's weights: `Trainer(model, trainable=head_weights(model))` freezes the rest.

    Frozen layers of batch normalisation still use the batch's statistics and update the running ones unless
    the trainer is told `batchnorm="frozen"`, which is what few images call for.

    Args:
        output: the output whose layer is meant, where the model has several.

    Raises:
        ModelError: no last layer; see `replace_head`.
    """
    head = find_head(model, output)
    return [value.name or "" for value in (head.weight, head.bias) if value is not None]
