"""The cases of ONNX's own test suite, as the installed onnx has them: which there are, and how one is run.

Kinds: node (built in memory: one node each, and what its definition expands to), simple, pytorch-converted and
pytorch-operator (models with data, in onnx's folder), and the real models, light: their weights are constants.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx.backend.test import loader
from onnx.backend.test.runner import Runner, _normalize_tensor

from cconv import onnx_backend
from onnx_suite.left_out import LEFT_OUT, LeftOut

DATA = Path(loader.DATA_DIR)
PREVIEW = "ai.onnx.preview.training"
ON_DISK = ("simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True, eq=False)
class Case:
    """One case.

    Attributes:
        operators: the operator that it is about; for a model of several nodes, theirs.
        source: onnx's own description.
    """

    name: str
    kind: str
    operators: frozenset[str]
    source: Any

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.name.removeprefix('test_')}"

    @property
    def left_out(self) -> LeftOut | None:
        """Why the case is not in scope; None if it is."""
        return next((entry for entry in LEFT_OUT if covers(entry, self)), None)

    @property
    def trains(self) -> bool:
        """Whether it is one of ai.onnx.preview.training: an optimizer's step, or Gradient."""
        own = self.kind in ("node", "simple")  # the others come from PyTorch
        return own and any(node.domain == PREVIEW for node in self.model().graph.node)

    def model(self) -> onnx.ModelProto:
        return self.source.model or onnx.load(Path(self.source.model_dir, "model.onnx"))

    def data(self, model: onnx.ModelProto) -> Iterator[tuple[list[Any], list[Any]]]:
        """(inputs, outputs) of each data set."""
        if self.source.data_sets is not None:
            for inputs, outputs in self.source.data_sets:
                yield [_normalize_tensor(value) for value in inputs], [_normalize_tensor(value) for value in outputs]
            return
        for folder in sorted(Path(self.source.model_dir).glob("test_data_set_*")):
            yield _values(folder, "input", model.graph.input), _values(folder, "output", model.graph.output)

    def run(self) -> None:
        """Compare cconv's outputs with the suite's, by its own tolerances (1e-3 relative where it names none).

        Raises:
            AssertionError: they differ. Else whatever cconv raises.
        """
        model = self.model()
        prepared = onnx_backend.prepare(model)
        for inputs, outputs in self.data(model):
            Runner.assert_similar_outputs(outputs, prepared.run(inputs), self.source.rtol, self.source.atol)


def covers(entry: LeftOut, case: Case) -> bool:
    return entry.operator in case.operators and re.search(entry.cases, case.name) is not None


def _values(folder: Path, what: str, declared: Any) -> list[Any]:
    values: list[Any] = []
    for i in range(len(list(folder.glob(f"{what}_*.pb")))):
        Runner._load_proto(None, str(folder / f"{what}_{i}.pb"), values, declared[i].type)
    return values


def _cases() -> list[Case]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the suite computes with infinities while it makes its data
        nodes = loader.load_model_tests(kind="node")
    about = {case.name: case.model.graph.node[0].op_type for case in nodes}
    cases = []
    for source in nodes:
        # What a definition expands to is a case of the operator defined.
        operator = about[source.name.split("_expanded")[0]]
        cases.append(Case(source.name, "node", frozenset([operator]), source))
    for kind in ON_DISK:
        for source in sorted(loader.load_model_tests(kind=kind), key=lambda source: source.name):
            graph = onnx.load(Path(source.model_dir, "model.onnx"), load_external_data=False).graph
            cases.append(Case(source.name, kind, frozenset(node.op_type for node in graph.node), source))
    return cases


CASES = _cases()
IN_SCOPE = [case for case in CASES if case.left_out is None]
