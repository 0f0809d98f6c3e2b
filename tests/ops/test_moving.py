"""What operators that move, select or make elements refuse, and what single cases of theirs do not show."""

import numpy as np
import pytest

import cconv
from cconv.errors import DTypeError, ModelError, ShapeError, TrainingError, UnsupportedOpError, ValueRangeError
from harness import directional_error, feeds_of, forward, model_of, node_model, projection_plan
from ops_cases.case import Case


def ints(*values):
    return np.array(values, dtype=np.int64)


def known(op_type, inputs, attributes=None, **fields):
    """A case whose inputs after the first are initializers."""
    return Case(op_type, inputs, attributes or {}, tuple(range(1, len(inputs))), **fields)


REFUSED = [
    (known("Slice", [(4,), ints(0), ints(1, 2)]), ShapeError, "an entry for each axis"),
    (known("Slice", [(4, 4), ints(0, 0), ints(1, 2), ints(1, -1)]), ShapeError, "named once"),
    (known("Slice", [(4,), ints(0), ints(1), ints(1)]), ShapeError, "axis lies in -1..0; found axis 1"),
    (known("Slice", [(4,), ints(0), ints(1), ints(0), ints(0)]), ValueRangeError, "no step is 0"),
    (Case("Slice", [(4,), ints(0), ints(1)], {}, (2,)), UnsupportedOpError, "starts.*initializer"),
    (Case("Slice", [(4,)], {"starts": [0]}, opset=9), ModelError, "starts and ends are required"),
    (known("Split", [(6,), ints(2, 3)], outputs=2), ShapeError, "add up to the axis; found \\[2, 3\\]"),
    (known("Split", [(6,), ints(7, -1)], outputs=2), ShapeError, "add up to the axis"),
    (Case("Split", [(5,)], opset=13, outputs=2), ShapeError, "equal parts.*axis of 5"),
    (Case("Split", [(6,)], {"num_outputs": 3}, outputs=2), ShapeError, "for each of num_outputs"),
    (known("Expand", [(3, 2), ints(4, 2)]), ShapeError, "are the input's or 1; found \\(4, 2\\)"),
    (known("Tile", [(3, 2), ints(4)]), ShapeError, "an entry for each axis"),
    (known("Tile", [(3,), ints(-1)]), ShapeError, "none negative"),
    (known("Gather", [(3, 2), ints(1, 3)]), ValueRangeError, "lie in -3..2; found index 3"),
    (known("Gather", [(3, 2), np.zeros(2, np.float32)]), DTypeError, "int32 or int64; found float32"),
    (known("Gather", [(), ints(0)]), ShapeError, "at least one axis"),
    (Case("GatherElements", [(3, 2), np.zeros((2, 3), np.int64)]), ShapeError, "none longer but axis 0"),
    (Case("GatherElements", [(3, 2), ints(0, 1)]), ShapeError, "have the input's axes"),
    (Case("GatherND", [(3, 2), ints(0, 1, 1)]), ShapeError, "one index per indexed axis"),
    (Case("GatherND", [(3, 2), np.zeros((2, 1), np.int64)], {"batch_dims": 1}), ShapeError, "axes are equal"),
    (Case("GatherND", [(3, 2), np.zeros((3, 1), np.int64)], {"batch_dims": 2}), ShapeError, "more axes than"),
    (Case("Compress", [(3,), np.ones(3, bool)]), UnsupportedOpError, "the condition.*initializer"),
    (known("Compress", [(3,), np.ones(4, bool)]), ShapeError, "at most 3 bools; found bool of shape \\(4,\\)"),
    (Case("ReverseSequence", [(4, 3), ints(1, 2)]), ShapeError, "one length for each sequence"),
    (Case("ReverseSequence", [(4, 3), ints(1, 2)], {"time_axis": 1}), ModelError, "0 and 1, either way"),
    (Case("ScatterND", [(4, 3), ints(1, 2).reshape(2, 1), (2, 4)]), ShapeError, "updates have the shape \\(2, 3\\)"),
    (Case("ScatterND", [(4, 3), ints(1, 2).reshape(2, 1), np.zeros((2, 3), int)]), DTypeError, "one dtype"),
    (
        Case("ScatterND", [(3,), ints(1).reshape(1, 1), (1,)], {"reduction": "max"}, opset=16),
        UnsupportedOpError,
        "none, add, mul",
    ),
    (
        Case("ScatterND", [np.zeros(3, np.uint8), ints(1).reshape(1, 1), np.zeros(1, np.uint8)], {"reduction": "add"}),
        UnsupportedOpError,
        "int32 and int64; found 'add' of uint8",
    ),
    (Case("ScatterElements", [(3,), np.zeros((1, 1), int), (1, 1)], {}), ShapeError, "have the input's axes"),
    (Case("MaxUnpool", [(1, 1, 2), np.zeros((1, 1, 3), int)], {"kernel_shape": [2]}), ModelError, "an int64 index"),
    (Case("MaxUnpool", [(1, 1, 2), np.zeros((1, 1, 2), int)], {"kernel_shape": [2, 2]}), ShapeError, "1 axes for 1"),
    (Case("Range", [np.array(0), np.array(3), np.array(0)], {}, (0, 1, 2)), ValueRangeError, "delta is not 0"),
    (Case("Range", [np.array(0), np.array(3), ints(1, 2)], {}, (0, 1, 2)), ShapeError, "one number each"),
    (Case("ConstantOfShape", [ints(2, -1)], {}, (0,)), ShapeError, "not negative"),
    (Case("Resize", [(2, 3)], opset=13), ModelError, "either scales or sizes; found neither"),
    (known("Resize", [(2, 3), None, np.ones(1, np.float32)], opset=13), ShapeError, "the scales have 2 entries"),
    (
        known("Resize", [(2, 3), None, np.zeros(2, np.float32)], opset=13),
        ValueRangeError,
        "positive numbers; found 0.0",
    ),
    (known("Resize", [(2, 3), None, np.full(2, 0.1, np.float32)], opset=13), ShapeError, "at least one element"),
    (known("Resize", [(2, 3), None, None, ints(2, 0)], opset=13), ShapeError, "at least one element"),
    (Case("Resize", [(2, 3), None, np.ones(2, np.float32)], opset=13), UnsupportedOpError, "the scales.*initializer"),
    (known("Resize", [(2, 3), None, None, ints(2, 2)], {"mode": "area"}, opset=13), UnsupportedOpError, "'area'"),
    (
        known(
            "Resize",
            [(2, 3), None, None, ints(2, 2)],
            {"coordinate_transformation_mode": "half_pixel_symmetric"},
            opset=13,
        ),
        UnsupportedOpError,
        "one of half_pixel, pytorch_half_pixel",
    ),
    (
        known(
            "Resize",
            [(2, 3), None, None, ints(2, 2)],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            opset=13,
        ),
        ModelError,
        "names a region",
    ),
    (
        known("Resize", [np.arange(6).reshape(2, 3), None, None, ints(2, 2)], {"mode": "linear"}, opset=13),
        UnsupportedOpError,
        "interpolates floating-point numbers; found int64",
    ),
    (known("Upsample", [(2, 3), np.ones(3, np.float32)], opset=9), ShapeError, "a scale for each axis"),
    (known("TopK", [(3, 4), ints(5)]), ShapeError, "one number in 0..4; found \\[5\\]"),
    (Case("TopK", [(3, 4), ints(2)]), UnsupportedOpError, "input 1 \\(k\\).*initializer"),
    (known("TopK", [np.zeros(3, np.uint8), ints(2)]), UnsupportedOpError, "int32 or int64; found uint8"),
    (known("Trilu", [(3,), np.array(1)]), ShapeError, "rows, columns"),
    (known("OneHot", [ints(1, 2), ints(0), (2,)]), ShapeError, "one positive number"),
    (known("OneHot", [ints(1, 2), ints(3), (3,)]), ShapeError, "values are \\(2,\\)"),
    (known("CumSum", [(3,), np.array(1)]), ShapeError, "axis lies in -1..0; found axis 1"),
    (known("CumSum", [(3,), np.array(0, np.float32)]), DTypeError, "the axis is one integer; found float32"),
    (Case("Einsum", [(3,)], {"equation": "i,j->ij"}), ModelError, "a term for each of 1 inputs"),
    (Case("Einsum", [(3, 4)], {"equation": "i->i"}), ShapeError, "a letter for each axis, or '...'; found 'i'"),
    (Case("Einsum", [(3,)], {"equation": "ij->i"}), ShapeError, "a letter for each axis"),
    (Case("Einsum", [(3, 4)], {"equation": "ij->ik"}), ModelError, "names labels of the inputs, each once"),
    (Case("Einsum", [(3, 4)], {"equation": "i...->i"}), ModelError, "names labels of the inputs"),
    (Case("Einsum", [(3, 4)], {"equation": "ij->ii"}), ModelError, "each once"),
    (Case("Einsum", [(3,), (4,)], {"equation": "i,i"}), ShapeError, "axes of one label have one size"),
    (Case("Einsum", [ints(1, 2)], {"equation": "i->"}), UnsupportedOpError, "multiplies floating-point numbers"),
    (Case("NonZero", [(3,)]), UnsupportedOpError, "the data.*initializer"),
]


@pytest.mark.parametrize("case, error, message", REFUSED, ids=[case.id for case, _, _ in REFUSED])
def test_refused_with_the_reason(case, error, message):
    with pytest.raises(error, match=message) as caught:
        forward(model_of(node_model(case)), feeds_of(case))
    assert "'node'" in str(caught.value)


@pytest.mark.parametrize("index", [3, -4, 2**40])
@pytest.mark.parametrize(
    "kind, shape, more",
    [
        ("Gather", (1,), ()),
        ("GatherElements", (1, 2), ()),
        ("GatherND", (1, 1), ()),
        ("ScatterND", (1, 1), (np.zeros((1, 2), np.float32),)),
        ("ScatterElements", (1, 2), (np.zeros((1, 2), np.float32),)),
    ],
)
def test_an_index_that_comes_at_run_time_and_lies_outside_is_an_error(kind, shape, more, index):
    case = Case(kind, [np.ones((3, 2), np.float32), np.full(shape, index), *more])
    model = cconv.load(node_model(case))
    feeds = {f"x{i}": value for i, value in enumerate(case.arrays())}
    with pytest.raises(ValueRangeError, match=r"'node'.*indices lie within their axis"):
        model.run(feeds)
    feeds["x1"] = np.zeros(shape, np.int64)
    assert model.run(feeds).dtype == np.float32


def test_training_says_so_too():
    case = Case("Gather", [(3, 2), ints(0, 1)], {}, (0,))
    trainer = cconv.Trainer(cconv.load(node_model(case)), loss="mse", optimizer=cconv.optim.SGD(lr=0.1))
    assert np.isfinite(trainer.step(ints(2, 1), np.zeros((2, 2), np.float32)))
    before = trainer.model.weights["x0"].copy()
    with pytest.raises(TrainingError, match=r"node.*indices lie within"):
        trainer.step(ints(2, 3), np.zeros((2, 2), np.float32))
    assert np.array_equal(trainer.model.weights["x0"], before)


@pytest.mark.parametrize("output", ["y0", "y1", "y2"])
def test_each_output_of_a_split_has_its_gradient(output):
    case = Case("Split", [(2, 7, 3)], {"axis": 1, "num_outputs": 3}, outputs=3)
    plan, weights = projection_plan(model_of(node_model(case, dynamic=False)), ["x0"], output=output)
    assert directional_error(plan, weights, np.random.default_rng(0))["x0"] < 1e-7


@pytest.mark.parametrize(
    "equation, shapes",
    [
        ("...ij,...jk->ik...", [(2, 3, 3, 4), (3, 4, 6)]),
        ("...,i...->...i", [(4,), (3, 2, 4)]),
        ("ab,ab->b", [(3, 4), (1, 4)]),
    ],
)
def test_einsum_broadcasts_as_numpy_does(equation, shapes):
    """onnxruntime refuses ellipses that stand for different numbers of axes, and sizes of 1."""
    case = Case("Einsum", shapes, {"equation": equation})
    arrays = case.arrays()
    feeds = {f"x{i}": value for i, value in enumerate(arrays)}
    (found,) = forward(model_of(node_model(case)), feeds).values()
    np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-6)
    plan, weights = projection_plan(model_of(node_model(case, dynamic=False)), list(feeds))
    assert max(directional_error(plan, weights, np.random.default_rng(0)).values()) < 1e-7


def test_each_mode_of_space_to_depth_undoes_depth_to_space():
    """onnxruntime does not know the mode of SpaceToDepth yet."""
    x = np.arange(2 * 12 * 3 * 4, dtype=np.float32).reshape(2, 12, 3, 4)
    for mode in ("DCR", "CRD"):
        attributes = {"blocksize": 2, "mode": mode}
        (wide,) = forward(model_of(node_model(Case("DepthToSpace", [x], attributes))), {"x0": x}).values()
        (deep,) = forward(model_of(node_model(Case("SpaceToDepth", [wide], attributes))), {"x0": wide}).values()
        assert np.array_equal(deep, x)
