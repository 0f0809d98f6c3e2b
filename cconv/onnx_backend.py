"""ONNX's interface to runtimes, `onnx.backend.base.Backend`, on cconv.

    from cconv import onnx_backend

    outputs = onnx_backend.prepare(proto).run([x, y])       # in the order of the graph's inputs and outputs
    outputs = onnx_backend.run_node(node, [x])

ONNX's own test suite asks for it (docs/onnx_suite.md), and so do programs that are written for any runtime. A model
goes through `cconv.load` with all its checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, shape_inference, version_converter
from onnx.backend.base import Backend, BackendRep, namedtupledict

from cconv.errors import ModelError, UnsupportedOpError, ValueRangeError, explain, root_of
from cconv.graph.nodes import with_subgraphs
from cconv.model import Model, load


class CconvRep(BackendRep):
    """A model that is ready to run.

    Attributes:
        model: the `cconv.Model`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._outputs = namedtupledict("Outputs", model.output_names)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs in the graph's order; they can be asked for by name, too.

        Args:
            inputs: arrays in the order of the graph's inputs that have no initializer, or a dict of them by name, or
                the one array.
            kwargs: options of Model.run.

        Raises:
            ValueRangeError: too few or too many inputs. Else what Model.run raises.
        """
        names = self.model.input_names
        if not isinstance(inputs, Mapping):
            arrays = _listed(inputs)
            if len(arrays) != len(names):
                known = ", ".join(repr(name) for name in names) or "none"
                raise ValueRangeError(explain("inputs", f"are {len(names)} arrays ({known})", str(len(arrays))))
            inputs = dict(zip(names, arrays))
        results = self.model.run(inputs, **kwargs)
        return self._outputs(*(results.values() if isinstance(results, dict) else [results]))


class CconvBackend(Backend):
    """cconv as a backend; its one device is the CPU."""

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return isinstance(device, str) and device.split(":")[0] == "CPU"

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether the opset is one that cconv reads, and all operators are ones that it can run.

        Raises:
            ModelError, UnsafeModelError: as cconv.load.
        """
        try:
            nodes = load(_readable(model)).nodes
        except UnsupportedOpError:
            return False
        return cls.supports_device(device) and all(node.supported for node in with_subgraphs(nodes))

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> CconvRep:
        """The model, loaded; its plan is made at the first run. Opsets below 7 are converted.

        Args:
            kwargs: options of cconv.load.

        Raises:
            ValueRangeError: another device. Else what cconv.load raises.
        """
        if not cls.supports_device(device):
            raise ValueRangeError(explain("device", "is 'CPU'", repr(device)))
        return CconvRep(load(_readable(model), **kwargs))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one node.

        Args:
            inputs: arrays for the inputs that the node names, in their order.
            outputs_info: (dtype, shape) of each output; the dtypes count.
            kwargs: opset_version, of the operator's domain, the newest if not given; options of Model.run.
        """
        names = [name for name in node.input if name]
        arrays = [np.asarray(array) for array in _listed(inputs)]
        if len(arrays) != len(names):
            raise ValueRangeError(explain("inputs", f"are {len(names)} arrays", str(len(arrays))))
        feeds = dict(zip(names, arrays))
        graph = helper.make_graph(
            [node],
            node.name or node.op_type,
            [_declared(name, array.dtype) for name, array in feeds.items()],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )
        for value, (dtype, _) in zip(graph.output, outputs_info or ()):
            value.CopyFrom(_declared(value.name, np.dtype(dtype)))
        plain = node.domain in ("", "ai.onnx") or not defs.has(node.op_type, node.domain)
        newest = defs.onnx_opset_version() if plain else defs.get_schema(node.op_type, node.domain).since_version
        version = kwargs.pop("opset_version", None) or newest
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        return cls.prepare(model, device).run(feeds, **kwargs)


def _readable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model; brought to opset 7, the oldest that cconv reads, by onnx's converter if its own is older.

    Raises:
        ModelError: no ModelProto.
        UnsupportedOpError: one that the converter does not take.
    """
    if not isinstance(model, onnx.ModelProto):
        found = type(model).__name__
        raise ModelError(explain("model", "is an onnx.ModelProto", found, "cconv.load takes files and bytes."))
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    if not versions or versions[0] >= 7:
        return model
    try:
        converted = version_converter.convert_version(model, 7)
        _spread_slopes(converted.graph, shape_inference.infer_shapes(converted).graph)
    except Exception as error:  # onnx raises what its parts happen to raise
        rule = f"is one that onnx converts from opset {versions[0]} to 7"
        raise UnsupportedOpError(explain("model", rule, root_of(error))) from error
    return converted


def _spread_slopes(graph: onnx.GraphProto, inferred: onnx.GraphProto) -> None:
    """Slopes (C,) of PRelu become (C, 1, ...): before opset 7 they met axis 1, since then they are broadcast from the
    last one on. The converter leaves them as they are.

    Args:
        inferred: the same graph with the shapes of its values.
    """
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*inferred.input, *inferred.value_info)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape for value in graph.input}
    for node in graph.node:
        if node.op_type != "PRelu" or node.input[1] not in weights:
            continue
        slope, ones = weights[node.input[1]], [1] * (ranks.get(node.input[0], 0) - 2)
        if len(slope.dims) == 1 and slope.dims[0] > 1:
            slope.dims.extend(ones)
            if node.input[1] in shapes:  # before IR 4 every initializer is an input, too
                shapes[node.input[1]].dim.extend(onnx.TensorShapeProto.Dimension(dim_value=1) for _ in ones)


def _listed(inputs: Any) -> list[Any]:
    """The arrays of a call: those of a list or tuple, or the one.

    Raises:
        ValueRangeError: neither.
    """
    if isinstance(inputs, np.ndarray):
        return [inputs]
    if isinstance(inputs, (list, tuple)):
        return list(inputs)
    raise ValueRangeError(explain("inputs", "are a list or tuple of arrays, or one array", type(inputs).__name__))


def _declared(name: str, dtype: np.dtype) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), None)


is_compatible = CconvBackend.is_compatible
prepare = CconvBackend.prepare
run_model = CconvBackend.run_model
run_node = CconvBackend.run_node
supports_device = CconvBackend.supports_device
