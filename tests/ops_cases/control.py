"""More of If, whose branches use values of outside, is in tests/graph/test_inlining.py."""

import numpy as np
from onnx import TensorProto, helper

from ops_cases.case import Case


def branch(*values):
    node = helper.make_node("Constant", [], ["out"], value_floats=list(values))
    return helper.make_graph([node], "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])


CASES = [
    Case("If", [condition], {"then_branch": branch(1.5), "else_branch": branch(2.0, 3.0)}, (0,), opset)
    for condition, opset in [(np.array(True), 13), (np.array([False]), 13), (np.array(False), 19)]
]
