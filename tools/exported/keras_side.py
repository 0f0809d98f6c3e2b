"""A network of keras.applications and its export by tf2onnx.

Keras 3 writes BatchNorm as a product and a sum, and the converter folds what follows from weights alone into one factor
and one summand a channel: the file holds other weights than the network. So TensorFlow's gradients cannot be compared
with; measure.py takes finite differences.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from typing import Any

import keras
import numpy as np
import tensorflow
import tf2onnx
from exported.networks import CALIBRATION, CLASSES, Network, images, shape
from tf2onnx import optimizer


class Module:
    """A Keras model with one output of logits. Its weights are drawn as torch_side's."""

    def __init__(self, network: Network) -> None:
        keras.utils.set_random_seed(0)
        self.network = network
        self.model = self._built()
        rng = np.random.default_rng(0)
        for weight in self.model.trainable_weights:
            value = weight.numpy()
            scale = 0.1 if value.ndim < 2 else 0.01 * np.abs(value).mean()
            weight.assign(value + scale * rng.standard_normal(value.shape))
        layers = [x for x in self.model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
        for layer in layers:
            layer.momentum = 0.0
            if layer.scale:
                layer.gamma.assign(0.3 * layer.gamma)
        self.model(images(network, CALIBRATION), training=True)

    def _built(self) -> Any:
        return getattr(keras.applications, self.network.name)(
            weights=None,
            input_shape=shape(self.network, 1)[1:],
            classes=CLASSES,
            classifier_activation=None,
            **self.network.options,
        )

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """The logits, in float64: of a second model, since a Keras layer computes in the dtype that it was made for."""
        keras.config.set_dtype_policy("float64")
        try:
            twin = self._built()
        finally:
            keras.config.set_dtype_policy("float32")
        twin.set_weights(self.model.get_weights())
        return np.asarray(twin(x.astype(np.float64), training=False))

    def weights(self) -> dict[str, np.ndarray]:
        """What is trained, by name; copies."""
        return {weight.path: weight.numpy() for weight in self.model.trainable_weights}

    def export(self, exporter: str, opset: int, trainable: bool) -> tuple[bytes, bool]:
        """The ONNX file, and whether its batch axis is free.

        Args:
            exporter: "tf2onnx".
            trainable: whether what is left of BatchNorm is kept out of the convolutions; else as the exporter does
                when nothing is asked for.
        """
        steps = dict(optimizer._get_optimizers())
        if trainable:
            del steps["remove_back_to_back"]
        signature = (tensorflow.TensorSpec((None, *shape(self.network, 1)[1:]), tensorflow.float32, name="x"),)
        proto, _ = tf2onnx.convert.from_keras(self.model, input_signature=signature, opset=opset, optimizers=steps)
        data: bytes = proto.SerializeToString()
        return data, True
