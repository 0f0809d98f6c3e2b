"""What integers as bits do where onnxruntime is no judge, and what is refused."""

import numpy as np
import pytest

from cconv.errors import DTypeError, ModelError
from harness import forward, model_of, node_model
from ops_cases.bitwise import INTEGERS, bits
from ops_cases.case import Case


def run(case):
    return forward(model_of(node_model(case)), {f"x{i}": value for i, value in enumerate(case.arrays())})["y0"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_shifts_up_to_past_the_width(dtype, direction):
    """Python's integers have any number of bits, and their sign goes on without end."""
    x, width = bits(dtype, (40,), 0), np.dtype(dtype).itemsize * 8
    for places in (0, 1, width - 1, width, width + 1, 100, *([-1] if dtype[0] == "i" else [])):
        beyond = places if places >= 0 else 200
        exact = [(int(value) << beyond if direction == "LEFT" else int(value) >> beyond) % 2**width for value in x]
        found = run(Case("BitShift", [x, np.full(1, places, dtype)], {"direction": direction}, opset=28))
        assert np.array_equal(found.view(f"u{width // 8}"), np.array(exact, f"u{width // 8}"))


@pytest.mark.parametrize(
    "case, error, says",
    [
        (Case("BitShift", [bits("int32", (3,), 0)] * 2, {"direction": "LEFT"}), DTypeError, "without a sign"),
        (Case("BitShift", [bits("uint8", (3,), 0)] * 2), ModelError, "LEFT or RIGHT; found None"),
        (Case("BitwiseAnd", [bits("uint8", (3,), 0), bits("int8", (3,), 0)]), DTypeError, "found uint8 and int8"),
        (Case("BitwiseNot", [(3,)]), DTypeError, "integers of one dtype; found float32"),
    ],
    ids=lambda value: value.op_type if isinstance(value, Case) else None,
)
def test_refused(case, error, says):
    with pytest.raises(error, match=f"'node'.*{says}"):
        run(case)
