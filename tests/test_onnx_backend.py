"""ONNX's interface to runtimes; its own test suite is in onnx_suite/."""

import unittest

import numpy as np
import onnx.backend.test
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


def test_what_is_no_list_of_arrays():
    rep = onnx_backend.prepare(TWO)
    for strange in (None, 3.0, "ab"):
        with pytest.raises(ValueRangeError, match=r"inputs: are a list or tuple of arrays, or one array; found"):
            rep.run(strange)
    with pytest.raises(ValueRangeError, match=r"found dict"):
        onnx_backend.run_node(helper.make_node("Neg", ["x"], ["y"]), {"x": X})


def test_what_is_no_model():
    for strange in (None, "net.onnx", TWO.SerializeToString()):
        for function in (onnx_backend.prepare, onnx_backend.is_compatible):
            with pytest.raises(ModelError, match=r"model: is an onnx\.ModelProto; found"):
                function(strange)


def test_what_is_no_device():
    assert not onnx_backend.supports_device(None)
    with pytest.raises(ValueRangeError, match="found None"):
        onnx_backend.prepare(TWO, None)


def test_an_old_model_that_cannot_be_converted():
    proto = model(helper.make_node("Strange", ["a", "b"], ["p"]), outputs=["p"], opset=5)
    assert not onnx_backend.is_compatible(proto)
    with pytest.raises(UnsupportedOpError, match="is one that onnx converts from opset 5 to 7"):
        onnx_backend.prepare(proto)


def test_domains_of_one_node():
    (found,) = onnx_backend.run_node(helper.make_node("Neg", ["x"], ["y"], domain="ai.onnx"), [X])
    assert np.array_equal(found, -X)
    with pytest.raises(UnsupportedOpError, match="Strange"):
        onnx_backend.run_node(helper.make_node("Strange", ["x"], ["y"], domain="my.own"), [X])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # onnx computes with infinities while it makes its data
def test_onnx_runner_takes_the_backend():
    """As docs/onnx_suite.md says it; here one case of the runner's."""
    runner = onnx.backend.test.BackendTest(onnx_backend, __name__)
    runner.include(r"^test_relu_cpu$")
    result = unittest.TestResult()
    runner.test_suite.run(result)
    assert result.wasSuccessful() and result.testsRun > len(result.skipped)
