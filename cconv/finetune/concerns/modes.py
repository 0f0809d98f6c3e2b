"""Nodes that were exported in training mode."""

from __future__ import annotations

from collections.abc import Iterator

from cconv.finetune.case import Case
from cconv.finetune.concerns.concern import Concern
from cconv.finetune.diagnosis import WARNING, Finding
from cconv.finetune.edit import constant_of, listed, name_of, plain


def find(case: Case) -> Iterator[Finding]:
    nodes = list(case.model.ir.graph)
    norms = [n for n in nodes if plain(n, "BatchNormalization") and int(n.attributes.get_int("training_mode", 0))]
    if norms:
        yield Finding(
            WARNING,
            listed(map(name_of, norms)),
            "BatchNormalization in training mode: where the file is used it normalises with each batch's own "
            "statistics, so an answer depends on the other examples. Training here is not affected.",
            "Export in eval mode, or set training_mode to 0 before the file is used.",
        )
    drops = []
    for node in nodes:
        if plain(node, "Dropout") and len(node.inputs) > 2:
            mode = constant_of(case.model, node.inputs[2])
            if mode is not None and bool(mode.all()):
                drops.append(node)
    if drops:
        yield Finding(
            WARNING,
            listed(map(name_of, drops)),
            "Dropout in training mode: where the file is used, its answers are random. Training here is not affected.",
            "Export in eval mode, or leave the third input out.",
        )


CONCERNS = [Concern("training mode", find)]
