"""A network of torchvision or timm: its weights, its export to ONNX, and PyTorch's gradients."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from exported.networks import CALIBRATION, CLASSES, Network, images

BatchNorm = torch.nn.modules.batchnorm._BatchNorm


class Module:
    """A torch.nn.Module in evaluation mode with one output of logits.

    Weights are those of the constructor, moved a little, so that none is neutral (a BatchNorm's scale of 1, a last
    block's of 0) and no two are equal. The running statistics are those of a batch of images: with the constructor's a
    deep network's outputs vanish or overflow.
    """

    def __init__(self, network: Network) -> None:
        torch.manual_seed(0)
        if network.library == "timm":
            import timm

            module = timm.create_model(network.name, pretrained=False, num_classes=CLASSES, **network.options)
        else:
            import torchvision

            module = torchvision.models.get_model(network.name, weights=None, num_classes=CLASSES, **network.options)
        self.network = network
        self.module: Any = Logits(module) if network.library == "torchvision.segmentation" else module
        self.module.eval()
        for layer in self.module.modules():  # as files store it, so that float64 is the same network on both sides
            if isinstance(getattr(layer, "eps", None), float):
                layer.eps = float(np.float32(layer.eps))
        with torch.no_grad():
            for weight in self.module.parameters():
                scale = 0.1 if weight.ndim < 2 or not weight.any() else 0.01 * weight.abs().mean()
                weight.add_(scale * torch.randn_like(weight))
            momenta = [layer.momentum for layer in self.normalizations]
            for layer in self.normalizations:
                layer.train()
                layer.momentum = 1.0
                if layer.weight is not None:
                    layer.weight.mul_(0.3)
            self.module(torch.from_numpy(images(network, CALIBRATION)))
            for layer, momentum in zip(self.normalizations, momenta):
                layer.momentum = momentum
        self.module.eval()

    @property
    def normalizations(self) -> list[Any]:
        return [layer for layer in self.module.modules() if isinstance(layer, BatchNorm)]

    def weights(self) -> dict[str, np.ndarray]:
        """What is trained, by name; copies."""
        return {name: p.detach().numpy().copy() for name, p in self.module.named_parameters()}

    def export(self, exporter: str, opset: int, trainable: bool) -> tuple[bytes, bool]:
        """The ONNX file, and whether its batch axis is free.

        Args:
            exporter: "legacy" or "dynamo".
            trainable: whether BatchNorm is kept; else as the exporter does when nothing is asked for.
        """
        x = torch.from_numpy(images(self.network, 2))
        failure: Exception | None = None
        for free in (True, False):
            try:
                export = self._legacy if exporter == "legacy" else self._dynamo
                return export(x, opset, trainable, free), free
            except Exception as error:  # exporters raise whatever their parts raise
                failure = failure or error
        assert failure is not None
        raise failure

    def _legacy(self, x: Any, opset: int, trainable: bool, free: bool) -> bytes:
        file = io.BytesIO()
        torch.onnx.export(
            self.module,
            (x,),
            file,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}} if free else None,
            do_constant_folding=not trainable,
            training=torch.onnx.TrainingMode.PRESERVE if trainable else torch.onnx.TrainingMode.EVAL,
        )
        return file.getvalue()

    def _dynamo(self, x: Any, opset: int, trainable: bool, free: bool) -> bytes:
        shapes = ({0: torch.export.Dim("batch", min=1, max=64)},) if free else None
        module = self.module
        if trainable and self.network.library == "torchvision.video":  # networks.NOTES says why
            module = torch.export.export(module, (x,), dynamic_shapes=shapes).run_decompositions()
        program = torch.onnx.export(
            module,
            (x,),
            dynamo=True,
            opset_version=opset,
            input_names=["x"],
            output_names=["y"],
            dynamic_shapes=shapes,
            optimize=not trainable,
            verbose=False,
        )
        assert program is not None
        data: bytes = program.model_proto.SerializeToString()
        return data

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """The logits, in float64."""
        with torch.no_grad():
            logits: np.ndarray = self.module.double()(torch.from_numpy(x).double()).numpy()
        self.module.float()
        return logits

    def gradients(self, x: np.ndarray, y: np.ndarray, dtype: str, batchnorm: str) -> dict[str, np.ndarray]:
        """Of the mean cross-entropy, in float64 whatever they are computed in. Nothing else changes."""
        self.module.to(getattr(torch, dtype)).eval()
        buffers = [(buffer, buffer.clone()) for buffer in self.module.buffers()]
        for layer in self.normalizations:
            layer.train(batchnorm == "batch")
        logits = self.module(torch.from_numpy(x).to(getattr(torch, dtype)))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        named = self.module.named_parameters()
        found = {name: p.grad.double().numpy().copy() for name, p in named if p.grad is not None}
        self.module.zero_grad()
        self.module.float().eval()
        return found


class Logits(torch.nn.Module):
    """A segmentation network that returns its logits alone and not a dict."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network(x)["out"]
