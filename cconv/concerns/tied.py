"""Find weights that an exporter merged because their values happened to be equal, and give each its own array.

PyTorch's exporter stores equal parameters once. The other parameters become Identity nodes with the original names:

    Identity  layer1.bn.bias -> layer2.bn.bias

Training would add the gradients of both parameters and keep them equal. An initializer that several nodes read
directly is a weight that the network shares on purpose, and stays shared.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from cconv.concerns.case import Case
from cconv.concerns.concern import Concern, Done, Options
from cconv.concerns.edit import counted, initializer, listed, name_of, naming, plain, register
from cconv.concerns.finding import INFO, WARNING, Finding
from cconv.model import Model


def find(case: Case) -> Iterator[Finding]:
    graph = case.model.ir.graph
    for source, copies in merged(case.model).items():
        yield Finding(
            WARNING,
            listed(map(name_of, copies)),
            f"{counted(len(copies), 'parameter')} ({naming(c.outputs[0].name or '' for c in copies)}) and {source!r} "
            "share one array, because their values were equal at export. Training would keep them equal.",
            "Give each parameter its own array. *",
            automatic=True,
        )
    parameters = set(case.model.parameters)
    for name, value in graph.initializers.items():
        users = list(dict.fromkeys(node for node, _ in value.uses() if not plain(node, "Identity")))
        if name in parameters and len(users) > 1 and case.model.weights[name].size > 1:
            shared = naming(map(name_of, users))
            yield Finding(INFO, name, f"Shared by {shared}. Trained and saved as one weight.")


def repair(model: Model, options: Options) -> Done | None:
    graph = model.ir.graph
    count = 0
    while by_source := merged(model):  # repeated for chains: an Identity may read the output of a replaced Identity
        for source, copies in by_source.items():
            array = model.weights[source]
            for node in copies:
                output = node.outputs[0]
                name = output.name or ""
                value = initializer(name, array.copy())
                for user, i in list(output.uses()):
                    user.replace_input_with(i, value)
                graph.remove(node, safe=True)
                register(model, value)
                count += 1
        model.edited()
    return Done(f"{counted(count, 'parameter')} untied") if count else None


def merged(model: Model) -> dict[str, list[ir.Node]]:
    """Weight name -> the Identity nodes that copy the weight under another name, if the weight has several uses."""
    copies_of: dict[str, list[ir.Node]] = {}
    outputs = {value.name for value in model.ir.graph.outputs}
    for name in model.weights:
        users = [node for node, _ in model.ir.graph.initializers[name].uses()]
        copies = [
            node
            for node in users
            if plain(node, "Identity") and node.graph is model.ir.graph and node.outputs[0].name not in outputs
            and node.outputs[0].uses()
        ]  # fmt: skip
        if copies and len(users) > 1:
            copies_of[name] = copies
    return copies_of


CONCERNS = [Concern("tied weights", find, repair)]
