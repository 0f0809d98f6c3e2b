"""What the tests share: running one step on arrays, one node as a model, gradients checked in float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from cconv.kernels import FLOAT64, Build, builds
from cconv.kernels.core.memory import Region
from cconv.kernels.core.step import Program
from cconv.model import Model
from cconv.ops.catalogue import CATALOGUE
from cconv.ops.tensor import Spec, Tensor
from cconv.plan.plan import Plan, inference_plan, training_plan
from ops_cases.case import Case

ALL_BUILDS = [Build(name) for name in builds()] + [FLOAT64]
THREADS = (1, 2, 3)


def run_step(step, *operands: np.ndarray | None, threads: int = 1) -> int:
    """Bind a step to arrays (None: absent operand) and run it; scratch is filled with NaN. Returns the status."""
    scratch = Region(step.scratch_bytes * threads)
    np.asarray(scratch)[:] = 0xFF
    addresses = []
    for array in operands:
        assert array is None or array.flags.c_contiguous
        addresses.append(0 if array is None else array.ctypes.data)
    step.bind(addresses, scratch.address, threads)
    _, status = Program([step]).run()
    return status


def nans(shape, dtype) -> np.ndarray:
    """An output array in which anything left unwritten shows."""
    return np.full(shape, np.nan, dtype)


def integers(rng: np.random.Generator, shape, dtype, low=-4, high=5) -> np.ndarray:
    """Small whole numbers: sums of their products are exact in float32, so results compare with ==."""
    return rng.integers(low, high, shape).astype(dtype)


def node_model(case: Case, dynamic: bool = True) -> onnx.ModelProto:
    """The case's node as a model: `dynamic` inputs as graph inputs, or as initializers."""
    arrays = case.arrays()
    names = ["" if value is None else f"x{i}" for i, value in enumerate(arrays)]
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op_type, names, outputs, name="node", domain=case.domain, **case.attributes)
    inputs, initializers = [], []
    for i, (name, value) in enumerate(zip(names, arrays)):
        if value is None:
            continue
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        if dynamic and i not in case.constant_inputs:
            inputs.append(helper.make_tensor_value_info(name, kind, value.shape))
        else:
            initializers.append(onnx.numpy_helper.from_array(value, name))
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in outputs]
    graph = helper.make_graph([node], case.id, inputs, results, initializers)
    for result in graph.output:
        result.ClearField("type")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(case.domain, case.opset)])
    model.ir_version = min(model.ir_version, 10)
    return model


def feeds_of(case: Case) -> dict[str, np.ndarray]:
    """What the case's model with `dynamic` inputs is given."""
    return {
        f"x{i}": value for i, value in enumerate(case.arrays()) if value is not None and i not in case.constant_inputs
    }


def differentiable(case: Case) -> list[str]:
    """Names of the inputs that the case's operator has a gradient to."""
    operator = CATALOGUE[case.domain, case.op_type]
    wanted = []
    for i, value in enumerate(case.arrays()):
        if value is None or not np.issubdtype(value.dtype, np.floating) or i in case.constant_inputs:
            continue
        if case.gradient is not None and i not in case.gradient:
            continue
        if operator.differentiable is None or i in operator.differentiable:
            wanted.append(f"x{i}")
    return wanted


def behind_convolution(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model of one node with a convolution before input x0 that changes no value."""
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.input}
    shapes.update((tensor.name, list(tensor.dims)) for tensor in model.graph.initializer)
    rank, channels = len(shapes["x0"]), shapes["x0"][1]
    one = np.eye(channels, dtype=np.float32).reshape(channels, channels, *[1] * (rank - 2))
    (node,) = model.graph.node
    node.input[0] = "convolved"
    conv = helper.make_node("Conv", ["x0", "one"], ["convolved"], name="conv")
    del model.graph.node[:]
    model.graph.node.extend([conv, node])
    model.graph.initializer.append(onnx.numpy_helper.from_array(one, "one"))
    return model


class Projection:
    """Loss sum(output * target): its gradient is the target, so a random one checks a whole Jacobian."""

    def target_spec(self, output: Spec) -> Spec:
        return output

    def weight(self, lower, output: Tensor, target: Tensor) -> float:
        return 1.0

    def emit(self, lower, output: Tensor, target: Tensor, denominator: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
        return lower.external(np.zeros(1), "loss"), target  # no test reads the value of this loss


def model_of(proto: onnx.ModelProto) -> Model:
    return Model(ir.from_proto(proto))


def forward(
    model: Model, feeds: dict[str, np.ndarray], dtype=np.float32, threads=1, fuse=True
) -> dict[str, np.ndarray]:
    """All outputs of a model from an inference plan."""
    weights = {name: array.astype(dtype) for name, array in model.weights.items()}
    specs = {name: Spec(value.shape, value.dtype) for name, value in feeds.items()}
    plan = inference_plan(
        model.nodes, specs, model.output_names, weights, model.constants, dtype=dtype, threads=threads, fuse=fuse
    )
    for name, value in feeds.items():
        plan.inputs[name][...] = value
    plan.run()
    return {name: value.copy() for name, value in plan.outputs.items()}


def projection_plan(
    model: Model,
    trained: list[str],
    dtype=np.float64,
    threads=1,
    batchnorm="batch",
    output: str | None = None,
    fuse=True,
) -> tuple[Plan, dict[str, np.ndarray]]:
    """A training plan with the Projection loss, and its weights (copies in `dtype`)."""
    weights = {name: array.astype(dtype) for name, array in model.weights.items()}
    plan = training_plan(
        model.nodes,
        {},
        {output or model.output_names[0]: Projection()},
        weights,
        model.constants,
        trained,
        batchnorm=lambda name: batchnorm,
        dtype=dtype,
        threads=threads,
        fuse=fuse,
    )
    return plan, weights


def directional_error(plan: Plan, weights: dict[str, np.ndarray], rng, step=1e-6) -> dict[str, float]:
    """For each weight, |analytic - numeric| directional derivative over their scale, in float64.

    The plan must have one Projection loss. The numeric derivative is the central difference along one random
    direction, whose error is O(step^2) + O(eps / step), about 1e-9 here.
    """
    ((name, target),) = plan.targets.items()
    target[...] = rng.standard_normal(target.shape)
    direction = target.copy()
    plan.run(until="update")
    analytic = {key: value.copy() for key, value in plan.gradients.items()}

    def value() -> float:
        target[...] = direction
        plan.run(until="update")
        return float(np.sum(plan.outputs[name] * direction))

    errors = {}
    for key, gradient in analytic.items():
        along = rng.standard_normal(gradient.shape)
        along /= np.linalg.norm(along) or 1.0
        saved = weights[key].copy()
        weights[key][...] = saved + step * along
        above = value()
        weights[key][...] = saved - step * along
        below = value()
        weights[key][...] = saved
        numeric = (above - below) / (2 * step)
        exact = float(np.sum(gradient * along))
        scale = max(abs(numeric), abs(exact), float(np.linalg.norm(gradient)) / np.sqrt(max(gradient.size, 1)))
        errors[key] = abs(numeric - exact) / max(scale, 1e-12)
    return errors
