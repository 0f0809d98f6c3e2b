"""A graph as a message without its weights, and the weights beside it: how checkpoints and pickles store it.

The weights are arrays of their own, so the 2 GiB that a protobuf message may have do not limit them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from cconv.graph.graph import Graph
from cconv.graph.save import to_message


def take_apart(graph: Graph) -> tuple[bytes, dict[str, np.ndarray]]:
    """The graph as it is trained, as the bytes of a ModelProto without the values of float32 initializers; and these.

    The arrays are the live weights, not copies.
    """
    proto = to_message(graph.ir, graph.declared, dict.fromkeys(graph.weights, ()))
    for tensor in proto.graph.initializer:
        if tensor.name in graph.weights:
            tensor.ClearField("data_location")
    return proto.SerializeToString(), dict(graph.weights)


def put_together(message: bytes, arrays: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The inverse: the model as a message with all values.

    Raises:
        google.protobuf.message.DecodeError: the bytes are no ModelProto.
        KeyError: an initializer without an array.
    """
    proto = onnx.ModelProto.FromString(message)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.raw_data = arrays[tensor.name].astype("<f4", copy=False).tobytes()
    return proto
