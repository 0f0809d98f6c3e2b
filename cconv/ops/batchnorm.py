"""BatchNormalization, ONNX opsets 7 to 15 (the newest).

    y = (x - mean) / sqrt(variance + epsilon) * scale + bias        per channel

The plan, not the exported node, decides which mean and variance are used and whether the running averages are updated.
So a network that was exported for inference can still be trained.

    plan                   mean, variance       running averages    scale, bias
    inference              running              untouched           -
    inference, and the node has training_mode=1, as ONNX specifies it:
                           of the batch         new ones as outputs -
    training, "batch"      of the batch         updated             trained
    training, "statistics" of the batch         updated             fixed
    training, "frozen"     running              untouched           trained

Some exporters express weight standardisation as a BatchNormalization of a convolution's weights. Its running mean and
variance are computed from the same weights. See WithGivenStatistics.

The running variance follows ONNX: it averages the *population* variance, sum((x - mean)^2) / n, which also normalises
the batch. PyTorch averages the sample variance, sum((x - mean)^2) / (n - 1). The two differ by a factor n / (n - 1),
which is close to 1 in a convolutional network, because n counts the pixels of all images of the batch. Training losses
do not depend on the running variance. cconv follows ONNX because models are ONNX files, and because onnxruntime does
the same for a node in training mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import cconv.kernels.elementwise.elementwise as elementwise
import cconv.kernels.norm.norm as norm
from cconv.errors import DTypeError, ModelError, ShapeError, UnsupportedOpError, ValueRangeError
from cconv.ops.elementwise import binary, scaled
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Spec, Tensor, natural_layout

PARAMETERS = {1: "scale", 2: "bias", 3: "running mean", 4: "running variance"}


@dataclass(frozen=True)
class Tail:
    """Operations fused into the pass that writes the normalised value z: y = activation(z + residual).

    Attributes:
        activation: (name, a, b), see kernels/norm/norm.pyx; None: no activation.
        residual: a tensor of z's shape; None: nothing is added.
    """

    activation: tuple[str, float, float] | None = None
    residual: Tensor | None = None


class BatchNormalization(Operator):
    """Batch normalisation per channel. Inputs: x (N, C, ...), scale, bias, running mean, running variance (C,).

    Outputs: y; with training_mode=1 also the new running mean and variance.
    """

    type = "BatchNormalization"
    inputs = (5, 5)
    pure = False
    differentiable: ClassVar[tuple[int, ...]] = (0, 1, 2)
    averages: ClassVar[bool] = True
    """Whether training updates the running mean and variance. False if the model computes them."""

    per_example = True

    def shapes(self, call: Call) -> list[Spec]:
        x = self.require_rank(call, 0, 2, 8, "(N, C, ...)")
        for i, name in PARAMETERS.items():
            if call.spec(i).shape != x.shape[1:2]:
                raise call.error(
                    ShapeError,
                    f"input {i} ({name}) has one value per channel of the input {x.shape}: ({x.shape[1]},)",
                    f"shape {call.spec(i).shape}",
                )
        for i in range(5):
            if not np.issubdtype(call.spec(i).dtype, np.floating):
                raise call.error(DTypeError, f"input {i} holds floating-point numbers", str(call.spec(i).dtype))
        if call.attribute("spatial", 1) != 1:
            raise call.error(
                UnsupportedOpError,
                "normalises over the batch and all spatial axes (spatial=1)",
                f"spatial={call.attribute('spatial')}",
                "Flatten the input to (N, C * H * W) before it, as ONNX suggests.",
            )
        if not self.epsilon(call) >= 0:
            raise call.error(ValueRangeError, "epsilon is at least 0", f"{self.epsilon(call)}")
        if call.opset < 14 and call.output_count > 1:
            raise call.error(
                UnsupportedOpError,
                "has one output up to opset 13 (more mean that it was exported in training mode)",
                f"{call.output_count} outputs",
                "Export for inference (the plan decides how it trains), or for opset 14 or newer.",
            )
        most = 3 if self.training_mode(call) else 1
        if call.output_count > most:
            raise call.error(
                ModelError,
                f"has at most {most} outputs with training_mode={int(self.training_mode(call))}",
                f"{call.output_count} outputs",
            )
        return [x, call.spec(3), call.spec(4)]

    def epsilon(self, call: Call) -> float:
        return float(call.attribute("epsilon", 1e-5))

    def training_mode(self, call: Call) -> bool:
        return bool(call.attribute("training_mode", 0))

    def mode(self, lower: Lowering, call: Call) -> str:
        if lower.training and self.averages:
            return lower.batchnorm_mode(call.name)
        return "batch" if self.training_mode(call) else "frozen"

    def varies(self, lower: Lowering, call: Call) -> str:
        if self.mode(lower, call) == "frozen":
            return ""
        return "batch statistics" + (' (none with batchnorm="frozen")' if self.averages else "")

    def forward(self, lower: Lowering, call: Call, tail: Tail = Tail()) -> Sequence[Tensor]:
        x = lower.as_layout(call.input(0), natural_layout(len(call.spec(0).shape)))
        if tail.residual is not None:
            tail = Tail(tail.activation, lower.as_layout(tail.residual, x.layout))
        call.saved.update(x=x, tail=tail)
        if self.mode(lower, call) == "frozen":
            return self.forward_frozen(lower, call, x, tail)
        return self.forward_batch(lower, call, x, tail)

    def forward_frozen(self, lower: Lowering, call: Call, x: Tensor, tail: Tail) -> Sequence[Tensor]:
        """Forward pass with fixed statistics: y = activation(x * factor + shift + residual).

        factor = scale / sqrt(variance + epsilon) and shift = bias - mean * factor are computed once, when the plan is
        made, unless one of scale, bias, mean and variance changes between runs.
        """
        _, scale, bias, mean, variance = (call.input(i) for i in range(5))
        factor, shift = lower.tensor(scale.shape), lower.tensor(scale.shape)
        inverse = lower.tensor(scale.shape) if any(call.needs_gradient(i) for i in range(1, 5)) else None
        call.saved.update(factor=factor, mean=mean, inverse=inverse)
        lower.derive(
            norm.Fold(lower.build, scale.size, self.epsilon(call)),
            reads=[scale, bias, mean, variance],
            writes=[factor, shift, inverse],
        )
        y = lower.tensor(x.shape, x.layout)
        step = norm.Affine(lower.build, *rows_of(x), tail.activation)
        lower.emit(step, reads=[x, factor, shift, tail.residual], writes=[y], inplace=True)
        return [y, mean, variance][: call.output_count]

    def forward_batch(self, lower: Lowering, call: Call, x: Tensor, tail: Tail) -> Sequence[Tensor]:
        """Forward pass with batch statistics: z = (x - mean) * inverse * scale + bias; y = activation(z + residual).

        mean and variance are computed over the batch and the spatial axes; inverse = 1 / sqrt(variance + epsilon). The
        running averages are updated after the optimizer's step, or are outputs of the node if training_mode=1.
        """
        rows, channels = rows_of(x)
        if rows < 2:
            raise call.error(
                ShapeError,
                "batch statistics need at least two values per channel",
                f"{rows} in an input of shape {call.spec(0).shape}",
                'Use larger batches, or batchnorm="frozen" for this node.',
            )
        _, scale, bias, running_mean, running_variance = (call.input(i) for i in range(5))
        mean, variance, inverse = (lower.tensor((channels,)) for _ in range(3))
        call.saved.update(mean=mean, inverse=inverse)
        sums, lengths = lower.statistics_epilogue(x)
        step = norm.Statistics(lower.build, rows, channels, self.epsilon(call), block_rows=lengths)
        if sums is None:
            lower.emit(step, reads=[x], writes=[partials(lower, x), mean, variance, inverse])
        else:
            lower.emit(step, reads=[None, sums], writes=[mean, variance, inverse])

        def normalized() -> Tensor:
            y = lower.tensor(x.shape, x.layout)
            step = norm.Normalize(lower.build, rows, channels, tail.activation)
            lower.emit(step, reads=[x, mean, inverse, scale, bias, tail.residual], writes=[y], inplace=True)
            return y

        y = normalized()
        # The backward pass keeps x anyway, so y can be recomputed from x. With a residual it would have to keep the
        # residual too, so then y is not declared recomputable.
        if any(call.gradients_needed) and tail.residual is None:
            lower.recomputable(y, normalized)

        average = norm.RunningAverage(lower.build, channels, float(call.attribute("momentum", 0.9)))
        statistics = [mean, variance, running_mean, running_variance]
        if lower.training and self.averages:
            if running_mean.buffer.array is None or running_variance.buffer.array is None:
                raise call.error(
                    UnsupportedOpError,
                    "the running mean and variance are initializers, so that training can update them",
                    "values computed by the model",
                    'Store them as initializers, or use batchnorm="frozen" for this node.',
                )
            check = norm.CheckStatistics(lower.build, channels)
            lower.after_update(average, check, reads=statistics, updates=[running_mean, running_variance])
        if call.output_count == 1:
            return [y]
        new = [lower.tensor((channels,)) for _ in range(2)]
        average = norm.RunningAverage(lower.build, channels, float(call.attribute("momentum", 0.9)))
        lower.emit(average, reads=statistics, writes=new)
        return [y, *new][: call.output_count]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        if grads[0] is None:  # Only the running averages were used, which have no gradient.
            return [None] * 5
        return self.gradients(lower, call, grads[0])[:5]

    def gradients(
        self, lower: Lowering, call: Call, dy: Tensor, y: Tensor | None = None, wants_residual: bool = False
    ) -> list[Tensor | None]:
        """Emit the backward pass. Returns the gradients of the five inputs and, last, of the residual of the tail.

        dz is the gradient of z + residual, the input of the activation. The activation's derivative is part of another
        pass over dy if one is needed. There are three cases:

        Batch statistics, no residual: every pass reads x, recomputes z from it, and takes the derivative at z. y is not
        read and dz is not written, so 5 tensors go through memory and not 8.

        A residual, or frozen statistics: the first pass computes the derivative from y and writes dz. dz is also the
        gradient of the residual. With frozen statistics x may not be needed at all.

        dy comes from a convolution with a suitable epilogue: the convolution applies the derivative and computes the
        sums for scale and bias (Lowering.parameter_sums_epilogue).

        Args:
            dy: gradient of y.
            y: the output; needed only if the tail has an activation.
            wants_residual: whether the residual's gradient is needed.
        """
        mode, tail = self.mode(lower, call), call.saved["tail"]
        x, scale, bias = call.saved["x"], call.input(1), call.input(2)
        mean, inverse = call.saved["mean"], call.saved["inverse"]
        dy = lower.as_layout(dy, x.layout)
        wants_x = call.needs_gradient(0)
        wants_scale, wants_bias = (call.needs_gradient(i) and mode != "statistics" for i in (1, 2))
        wants_statistics = mode == "frozen" and (call.needs_gradient(3) or call.needs_gradient(4))
        wants_sums = wants_scale or wants_bias or wants_statistics or (wants_x and mode != "frozen")
        recompute_z = tail.activation is not None and tail.residual is None and mode != "frozen"
        gate = None if recompute_z or tail.activation is None else y

        dz: Tensor | None = dy
        if gate is not None:
            dz = lower.tensor(x.shape, x.layout) if wants_x or wants_residual else None
        dscale = dbias = dx = None
        if wants_sums:
            dscale, dbias = lower.tensor(scale.shape), lower.tensor(scale.shape)
            terms = (inverse, scale, bias) if recompute_z else (None, None, None)
            sums, blocks = lower.parameter_sums_epilogue(dy, tail.activation, [x, mean, *terms, gate])
            if sums is None:
                lower.emit(
                    norm.ParameterGradient(lower.build, *rows_of(x), tail.activation),
                    reads=[dy, x, mean, inverse, *terms[1:], gate],
                    writes=[None if dz is dy else dz, partials(lower, x), dscale, dbias],
                    inplace=True,
                )
            else:
                recompute_z, dz = False, dy
                step = norm.ParameterGradient(lower.build, *rows_of(x), blocks=blocks)
                lower.emit(step, reads=[None] * 3 + [inverse] + [None] * 3, writes=[None, sums, dscale, dbias])
        elif gate is not None and dz is not None:
            name, a, b = tail.activation
            step = elementwise.UnaryGradient(lower.build, name, x.size, a, b)
            lower.emit(step, reads=[dy, gate], writes=[dz], inplace=True)
        if wants_x and mode == "frozen":
            dx = lower.tensor(x.shape, x.layout)
            reads = [dz, call.saved["factor"], None, None]
            lower.emit(norm.Affine(lower.build, *rows_of(x)), reads=reads, writes=[dx], inplace=True)
        elif wants_x:
            dx = lower.tensor(x.shape, x.layout)
            step = norm.InputGradient(lower.build, *rows_of(x), tail.activation if recompute_z else None)
            reads = [dz, x, mean, inverse, scale, bias if recompute_z else None, dscale, dbias]
            lower.emit(step, reads=reads, writes=[dx], inplace=True)
        dmean = dvariance = None
        if wants_statistics:
            assert dscale is not None and dbias is not None
            # From z = (x - mean) * inverse * scale + bias and d inverse / d variance = -inverse^3 / 2 follow
            # dmean = -factor * dbias and dvariance = -inverse * factor / 2 * dscale, with factor = scale * inverse.
            factor = call.saved["factor"]
            dmean = binary(lower, "mul", scaled(lower, dbias, -1.0), factor)
            dvariance = binary(lower, "mul", binary(lower, "mul", scaled(lower, dscale, -0.5), factor), inverse)
        dscale, dbias = dscale if wants_scale else None, dbias if wants_bias else None
        return [dx, dscale, dbias, dmean, dvariance, dz if wants_residual else None]


class WithGivenStatistics(BatchNormalization):
    """A BatchNormalization whose running mean and variance are computed by the model.

    Training does not update them. Whether the plan trains makes no difference: with training_mode=1 the node normalises
    with the batch's statistics, otherwise with the given mean and variance.

    Args:
        training_mode: the node's attribute. If it is False, the given mean and variance have a gradient.
    """

    averages: ClassVar[bool] = False

    def __init__(self, training_mode: bool) -> None:
        self.differentiable = (0, 1, 2) if training_mode else (0, 1, 2, 3, 4)  # type: ignore[misc]


def rows_of(x: Tensor) -> tuple[int, int]:
    """(rows, channels) of a channels-last tensor. Rows are the batch and spatial axes together."""
    channels = x.shape[1]
    return x.size // max(1, channels), channels


def partials(lower: Lowering, x: Tensor) -> Tensor:
    """A tensor (blocks, 2, channels) float64 for the partial results of a reduction over the rows of x."""
    blocks = norm.row_blocks_of(*rows_of(x))
    return lower.tensor((blocks, 2, x.shape[1]), dtype=float)


OPERATORS: list[Operator] = [BatchNormalization()]
