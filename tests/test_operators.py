"""Every operator of the catalogue, on every case: forward, gradient, equal bits."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from cconv.errors import CconvError
from cconv.ops.catalogue import CATALOGUE
from cconv.ops.tensor import Spec
from harness import (
    behind_convolution,
    differentiable,
    directional_error,
    feeds_of,
    forward,
    model_of,
    node_model,
    projection_plan,
)
from ops_cases import CASES

IDS = [case.id for case in CASES]


def test_every_operator_has_a_case():
    whole_graphs = {"Gradient"}  # tests/ops/test_differentiate.py
    assert {operator for _, operator in CATALOGUE} - whole_graphs == {case.op_type for case in CASES}


# Versions of operators that no case is of, each with the reason. Versions that ONNX calls deprecated are not asked for.
WITHOUT_A_CASE = {
    ("Gradient", 1): "takes a whole graph: tests/ops/test_differentiate.py",
}


def versions():
    """(domain, operator, version, opsets that have it) of every operator, as far as opset 7 or newer has it."""
    newest = onnx.defs.onnx_opset_version()
    known = sorted(onnx.defs.get_all_schemas_with_history(), key=lambda schema: schema.since_version)
    for domain, name in CATALOGUE:
        schemas = [schema for schema in known if (schema.domain, schema.name) == (domain, name)]
        ends = [*(schema.since_version for schema in schemas[1:]), newest + 1]
        for schema, end in zip(schemas, ends):
            if not schema.deprecated and (domain or end > 7):
                yield domain, name, schema.since_version, range(schema.since_version, end)


def test_every_version_of_an_operator_has_a_case():
    """What a version changed (an axis that may be negative, an attribute that became an input) is what a case of it is
    about; where it changed only dtypes that a plan has not, the case says that nothing else did."""
    tried = {(case.domain, case.op_type, case.opset) for case in CASES}
    missing = {
        (name, version)
        for domain, name, version, opsets in versions()
        if not any((domain, name, opset) in tried for opset in opsets)
    }
    assert missing == set(WITHOUT_A_CASE)


def test_cases_are_distinct():
    assert len(set(IDS)) == len(IDS)


def judged(case, proto, feeds):
    if callable(case.judge):
        return [case.judge(*(value.astype(np.float64) for value in feeds.values())).astype(np.float32)]
    if case.judge == "onnx":
        values = [np.asarray(value) for value in ReferenceEvaluator(proto).run(None, feeds)]
        # It lets NumPy widen float32 to float64 where a scalar comes in; the outputs have the inputs' dtype.
        return [value.astype(np.float32) if value.dtype == np.float64 else value for value in values]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_forward_equals_onnxruntime(case):
    proto = node_model(case)
    feeds = feeds_of(case)
    expected = judged(case, proto, feeds)
    found = list(forward(model_of(proto), feeds).values())
    assert len(found) == len(expected) == case.outputs
    for ours, theirs in zip(found, expected):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        if np.issubdtype(theirs.dtype, np.floating):
            scale = np.max(np.abs(theirs), initial=1e-30)
            assert np.max(np.abs(ours - theirs), initial=0) <= case.tolerance * scale
        else:
            assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_equal_bits_at_any_number_of_threads(case):
    proto = node_model(case)
    feeds = feeds_of(case)
    one = forward(model_of(proto), feeds, threads=1)
    for threads in (2, 3):
        for name, value in forward(model_of(proto), feeds, threads=threads).items():
            assert np.array_equal(value, one[name], equal_nan=True)


@pytest.mark.parametrize("case", [c for c in CASES if differentiable(c)], ids=lambda case: case.id)
def test_gradient_equals_directional_difference(case):
    """float64, one random direction per input; the difference quotient itself is good to about 1e-8."""
    plan, weights = projection_plan(model_of(node_model(case, dynamic=False)), differentiable(case))
    errors = directional_error(plan, weights, np.random.default_rng(1))
    assert set(errors) == set(differentiable(case))
    assert max(errors.values()) < 1e-6, errors


@pytest.mark.parametrize("case", [c for c in CASES if differentiable(c)], ids=lambda case: case.id)
def test_gradient_bits_at_any_number_of_threads(case):
    results = []
    for threads in (1, 2, 3):
        plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), differentiable(case), np.float32, threads)
        ((_, target),) = plan.targets.items()
        target[...] = np.random.default_rng(2).standard_normal(target.shape)
        plan.run(until="update")
        results.append({name: value.copy() for name, value in plan.gradients.items()})
    for other in results[1:]:
        for name, value in results[0].items():
            assert np.array_equal(value, other[name], equal_nan=True)


def with_integers():
    """(case, i): one case of each operator, opset and number of inputs, an input of which can hold integers."""
    chosen = {(case.op_type, case.opset, len(case.inputs)): case for case in CASES}
    for case in chosen.values():
        for i, value in enumerate(case.arrays()):
            if value is not None and value.dtype == np.float32 and value.size and i not in case.constant_inputs:
                yield case, i


@pytest.mark.parametrize("case, i", list(with_integers()), ids=lambda value: getattr(value, "id", value))
@pytest.mark.parametrize("dtype", ["int8", "int64"])
def test_integers_are_refused_or_understood(case, i, dtype):
    """Never read as the floats whose place they take."""
    arrays = case.arrays()
    arrays[i] = np.array(np.rint(np.clip(np.nan_to_num(arrays[i]), 1, 9)), dtype)
    given = replace(case, inputs=arrays)
    try:
        found = forward(model_of(node_model(given)), feeds_of(given))
    except CconvError:
        return
    arrays[i] = arrays[i].astype(np.float32)
    expected = forward(model_of(node_model(replace(case, inputs=arrays))), feeds_of(given))
    for name, value in found.items():
        if value.dtype.kind == "f":
            assert np.allclose(value, expected[name], rtol=1e-5, atol=1e-6, equal_nan=True)


def apart(case, moving: set[int]):
    """Whether the operator says that examples stay apart where the inputs `moving` have one a slice along axis 0."""
    model = model_of(node_model(case))
    arrays = case.arrays()
    specs = {f"x{i}": Spec(a.shape, a.dtype) for i, a in enumerate(arrays) if a is not None}
    constants = {f"x{i}": a for i, a in enumerate(arrays) if a is not None and i not in moving}
    call = model.nodes[0].call(specs, constants)
    alike = all(spec.shape[:1] == arrays[min(moving)].shape[:1] for spec in call.results[: case.outputs])
    return alike and model.nodes[0].operator.separates(call, moving)


def movable(case) -> list[set[int]]:
    """Sets of inputs that may have a slice for every example, with at least two: the first alone, and all."""
    sizes = [() if a is None else a.shape[:1] for a in case.arrays()]
    able = [
        i for i, size in enumerate(sizes) if size == sizes[0] not in [(), (0,), (1,)] and i not in case.constant_inputs
    ]
    return [set(moving) for moving in dict.fromkeys([tuple(able[:1]), tuple(able)]) if moving and moving[0] == 0]


APART = [(case, moving) for case in CASES for moving in movable(case)]


@pytest.mark.parametrize("case, moving", APART, ids=[f"{c.id}-{len(m)}" for c, m in APART])
def test_examples_that_are_said_to_stay_apart_do(case, moving):
    """In another order they give the same bits in that order; one that changes changes no other."""
    if not apart(case, moving):
        return  # nothing is said; that not all say nothing is tested below
    model = model_of(node_model(case))
    feeds = feeds_of(case)
    before = forward(model, feeds)
    order = np.roll(np.arange(len(feeds["x0"])), 1)
    moved = {name: a[order] if int(name[1:]) in moving else a for name, a in feeds.items()}
    for name, value in forward(model, moved).items():
        assert np.array_equal(value, before[name][order], equal_nan=True)
    changed = {name: a.copy() for name, a in feeds.items()}
    for i in moving:
        changed[f"x{i}"][0] = changed[f"x{i}"][-1]
    for name, value in forward(model, changed).items():
        assert np.array_equal(value[1:], before[name][1:], equal_nan=True)


def test_who_says_that_examples_stay_apart():
    says = {case.op_type for case, moving in APART if apart(case, moving)}
    assert says >= {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Div", "Dropout",
        "Flatten", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape",
        "Sigmoid", "Softmax", "Transpose",
    }  # fmt: skip
    silent = {case.id for case, moving in APART if not apart(case, moving)}
    assert len(silent) > 10, "cases that mix examples are among them"


def feature_map(case) -> bool:
    """Whether input 0 can come out of a convolution."""
    x = case.inputs[0] if case.inputs else None
    shape = () if x is None else x.shape if isinstance(x, np.ndarray) else x
    real = not isinstance(x, np.ndarray) or x.dtype == np.float32
    return 3 <= len(shape) <= 5 and real and all(shape) and 0 not in case.constant_inputs


@pytest.mark.parametrize("case", [c for c in CASES if feature_map(c)], ids=lambda case: case.id)
def test_layout_does_not_matter(case):
    """What comes out of a convolution lies channels-last in memory; here it equals what went in."""
    feeds = feeds_of(case)
    plain = forward(model_of(node_model(case)), feeds)
    for name, value in forward(model_of(behind_convolution(node_model(case))), feeds).items():
        scale = np.max(np.abs(plain[name]), initial=1e-30) if value.dtype.kind == "f" else 0
        assert np.max(np.abs(value * 1.0 - plain[name] * 1.0), initial=0) <= 2 * case.tolerance * scale

    if "x0" not in differentiable(case):
        return
    gradients = []
    for proto in (node_model(case, dynamic=False), behind_convolution(node_model(case, dynamic=False))):
        plan, _ = projection_plan(model_of(proto), ["x0"])
        ((_, target),) = plan.targets.items()
        target[...] = np.random.default_rng(3).standard_normal(target.shape)
        plan.run(until="update")
        gradients.append(plan.gradients["x0"].copy())
    assert np.allclose(*gradients, rtol=1e-10, atol=1e-10)
