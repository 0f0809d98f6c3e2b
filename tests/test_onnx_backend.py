"""ONNX's interface to runtimes; its own test suite is in onnx_suite/."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.backend.base import Backend

from cconv import onnx_backend
from cconv.errors import ModelError, UnsupportedOpError, ValueRangeError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(*nodes, inputs=("a", "b"), outputs=("p", "q"), opset=20):
    def values(names):
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in names]

    graph = helper.make_graph(list(nodes), "net", values(inputs), values(outputs))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


TWO = model(helper.make_node("Neg", ["b"], ["q"]), helper.make_node("Sub", ["a", "b"], ["p"]))


def test_outputs_come_in_the_order_of_the_graph():
    rep = onnx_backend.prepare(TWO)
    p, q = rep.run([X, 2 * X])
    assert np.array_equal(p, -X) and np.array_equal(q, -2 * X)
    found = rep.run({"b": 2 * X, "a": X})
    assert np.array_equal(found.p, p) and np.array_equal(found["q"], q)
    assert np.array_equal(onnx_backend.run_model(TWO, [X, X]).p, 0 * X)


def test_one_array_for_one_input():
    proto = model(helper.make_node("Neg", ["a"], ["p"]), inputs=["a"], outputs=["p"])
    (found,) = onnx_backend.prepare(proto).run(X, threads=1)
    assert np.array_equal(found, -X)


def test_a_number_of_inputs_that_does_not_fit():
    with pytest.raises(ValueRangeError, match=r"are 2 arrays \('a', 'b'\); found 1"):
        onnx_backend.prepare(TWO).run([X])
    with pytest.raises(ValueRangeError, match="are 1 arrays; found 2"):
        onnx_backend.run_node(helper.make_node("Neg", ["x"], ["y"]), [X, X])


def test_one_node():
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    (found,) = onnx_backend.run_node(node, [X, np.float32(2)])
    assert np.array_equal(found, np.minimum(X, 2))
    (found,) = onnx_backend.run_node(helper.make_node("Relu", ["x"], ["y"]), X, opset_version=13)
    assert np.array_equal(found, X)
    half = X.astype(np.float16)
    info = [(np.float16, half.shape)]
    (found,) = onnx_backend.run_node(helper.make_node("Neg", ["x"], ["y"]), [half], outputs_info=info)
    assert found.dtype == np.float16 and np.array_equal(found, -half)


def test_devices():
    assert issubclass(onnx_backend.CconvBackend, Backend)
    assert onnx_backend.supports_device("CPU") and onnx_backend.supports_device("CPU:0")
    assert not onnx_backend.supports_device("CUDA")
    with pytest.raises(ValueRangeError, match="device: is 'CPU'; found 'CUDA'"):
        onnx_backend.prepare(TWO, "CUDA")


def test_what_is_compatible():
    strange = model(helper.make_node("Scan", ["a", "b"], ["p", "q"]))
    assert onnx_backend.is_compatible(TWO) and not onnx_backend.is_compatible(TWO, "CUDA")
    assert not onnx_backend.is_compatible(strange)
    with pytest.raises(UnsupportedOpError, match="Scan"):
        onnx_backend.run_model(strange, [X, X])


def test_an_opset_that_cconv_does_not_read_is_converted():
    proto = model(helper.make_node("Add", ["a", "b"], ["p"]), outputs=["p"], opset=6)
    assert onnx_backend.is_compatible(proto)
    assert np.array_equal(onnx_backend.run_model(proto, [X, X]).p, 2 * X)
    assert proto.opset_import[0].version == 6


def test_the_checks_of_loading_hold():
    broken = model(helper.make_node("Neg", ["nothing"], ["p"]), outputs=["p"])
    with pytest.raises(ModelError):
        onnx_backend.run_model(broken, [X, X])
