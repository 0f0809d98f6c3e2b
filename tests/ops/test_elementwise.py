"""What the rules of elementwise operators refuse, and their gradients where a function has no derivative."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ModelError, ShapeError, TrainingError, ValueRangeError
from harness import forward, model_of, node_model, projection_plan
from ops_cases.case import Case

WHOLE = np.arange(6)
FLAGS = np.array([True, False])

REFUSED = [
    (Case("Add", [FLAGS, FLAGS]), DTypeError, "of numbers; found bool and bool"),
    (Case("Exp", [WHOLE]), DTypeError, "floating-point.*int64"),
    (Case("Neg", [np.arange(3, dtype=np.uint8)]), DTypeError, "floating-point.*uint8"),
    (Case("Sign", [FLAGS]), DTypeError, "floating-point.*bool"),
    (Case("PRelu", [(2, 3), (2,)]), ShapeError, r"the input's or 1; found slope \(2,\)"),
    (Case("PRelu", [(3,), (2, 3)]), ShapeError, "aligned at the last"),
    (Case("PRelu", [(6,), WHOLE]), DTypeError, "float32 and int64"),
    (Case("Celu", [(3,)], {"alpha": 0.0}), ValueRangeError, "alpha is not 0"),
    (Case("Gelu", [(3,)], {"approximate": "erf"}), ValueRangeError, "'none' or 'tanh'; found 'erf'"),
    (Case("Mod", [(3,), (3,)]), ModelError, "need fmod=1"),
    (Case("Pow", [FLAGS, (2,)]), DTypeError, "bool and float32"),
    (Case("Max", [(6,), WHOLE]), DTypeError, "one dtype; found float32 and int64"),
    (Case("Sum", [(6,), WHOLE]), DTypeError, "int64 as input 1"),
    (Case("Mean", [(2, 3), (2,)]), ShapeError, r"\(2, 3\) and \(2,\)"),
    (Case("Less", [(6,), WHOLE]), DTypeError, "one dtype; found float32 and int64"),
    (Case("Less", [FLAGS, FLAGS]), DTypeError, "bool and bool"),
    (Case("And", [FLAGS, np.array([1, 0])]), DTypeError, "takes bools; found int64 as input 1"),
    (Case("Not", [(3,)]), DTypeError, "takes bools; found float32"),
    (Case("IsNaN", [WHOLE]), DTypeError, "floating-point.*int64"),
    (Case("Where", [(2,), (2,), (2,)]), DTypeError, "condition is a bool; found float32"),
    (Case("Where", [FLAGS, (2,), np.array([1, 2])]), DTypeError, "one dtype; found float32 and int64"),
    (Case("Where", [FLAGS, (3,), ()]), ShapeError, r"\(2,\) and \(3,\) and \(\)"),
    (Case("Cast", [(3,)]), ModelError, "names the dtype"),
    (Case("Cast", [(3,)], {"to": 8}), DTypeError, "casts to bool.*to=8"),
]


@pytest.mark.parametrize("case, error, message", REFUSED, ids=[case.id for case, _, _ in REFUSED])
def test_refused_with_the_reason(case, error, message):
    feeds = {f"x{i}": value for i, value in enumerate(case.arrays())}
    with pytest.raises(error, match=message) as caught:
        forward(model_of(node_model(case)), feeds)
    assert "'node'" in str(caught.value)


def gradients(case, target):
    """The gradients of all floating-point inputs for dy = target."""
    trained = [f"x{i}" for i, x in enumerate(case.arrays()) if x.dtype == np.float32]
    plan, _ = projection_plan(model_of(node_model(case, dynamic=False)), trained)
    ((_, written),) = plan.targets.items()
    written[...] = target
    plan.run(until="update")
    return [plan.gradients[name] for name in trained]


def array(*values):
    return np.array(values, np.float32)


# Node, inputs, gradients for dy = 1, which are PyTorch's.
KINKS = [
    ("Abs", {}, [array(0, -0.0)], [[0, 0]]),
    ("Relu", {}, [array(0)], [[0]]),
    ("PRelu", {}, [array(0, -2), array(0.25)], [[0.25, 0.25], [-2]]),
    ("HardSwish", {}, [array(-3, 3, -4, 4)], [[0, 1, 0, 1]]),
    ("HardSigmoid", {"alpha": 1 / 6}, [array(-3, 3)], [[0, 0]]),
    ("Elu", {}, [array(0)], [[1]]),
    ("Max", {}, [array(1, 2, 3), array(1, 3, 2)], [[0.5, 0, 1], [0.5, 1, 0]]),
    ("Min", {}, [array(1, 2, 3), array(1, 3, 2)], [[0.5, 1, 0], [0.5, 0, 1]]),
    ("Max", {}, [array(1), array(1), array(1)], [[0.25], [0.25], [0.5]]),
    ("Pow", {}, [array(0, 0, 0, 1), array(0, 2, 1, 2)], [[0, 0, 1, 2], [0, 0, 0, 0]]),
    ("Pow", {}, [array(-2), array(2)], [[-4], [np.nan]]),
    ("Mod", {"fmod": 1}, [array(-3.5, 3.5), array(2, -2)], [[1, 1], [1, 1]]),
]


@pytest.mark.parametrize("kind, attributes, inputs, expected", KINKS, ids=[f"{k[0]}-{i}" for i, k in enumerate(KINKS)])
def test_gradients_at_kinks(kind, attributes, inputs, expected):
    for found, wanted in zip(gradients(Case(kind, inputs, attributes), 1.0), expected):
        assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("kind", ["Floor", "Ceil", "Round", "Sign"])
def test_no_gradient_where_it_is_zero_almost_everywhere(kind):
    with pytest.raises(TrainingError, match="does not depend on 'x0'"):
        gradients(Case(kind, [(3,)]), 1.0)


def test_casts_pass_gradients_between_floats_alone():
    (found,) = gradients(Case("Cast", [(3,)], {"to": 11}), array(1, 2, 3))
    assert found.tolist() == [1, 2, 3]
    with pytest.raises(TrainingError, match="does not depend on 'x0'"):
        gradients(Case("Cast", [(3,)], {"to": 7}), 1)
