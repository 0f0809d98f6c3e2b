"""More of If, whose branches use values of outside, is in tests/graph/test_inlining.py."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ops_cases.case import Case


def branch(*values):
    value = numpy_helper.from_array(np.array(values, np.float32))
    node = helper.make_node("Constant", [], ["out"], value=value)
    return helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])


CASES = [
    Case("If", [condition], {"then_branch": branch(1.5), "else_branch": branch(2.0, 3.0)}, (0,), opset)
    for condition, opset in [(np.array(True), 13), (np.array([False]), 13), (np.array(False), 19)]
]
CASES += [
    Case("If", [np.array(True)], {"then_branch": branch(1.5), "else_branch": branch(2.0)}, (0,), opset)
    for opset in (7, 11, 16, 21, 23, 24, 25)
]
