"""Convolutions on NumPy arrays: the kernels without a model.

    conv1d conv2d conv3d                         y = x * w + b
    ..._input_gradient                           dx from dy and w
    ..._weight_gradient                          dw from dy and x
    conv_transpose1d ... and the same two gradients

Arrays are in ONNX's order: x (N, C, spatial), w (K, C/groups, kernel), y (N, K, spatial'); for transposed
convolutions w (C, K/groups, kernel). All float32, or all float64. Sizes are per axis or one for all axes.
Names and meaning of the arguments are PyTorch's (torch.nn.functional); padding may be "same" or "valid".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cconv.arguments import Sizes, conv_sizes, sizes, whole
from cconv.errors import DTypeError, ShapeError, explain
from cconv.kernels.core.threads import get_num_threads
from cconv.ops.conv import Conv, Convolution, ConvTranspose, gather
from cconv.ops.operator import Call
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.plan.plan_builder import PlanBuilder


def _compute(
    place: str, arrays: Sequence[np.ndarray], steps: Callable[[PlanBuilder, list[Tensor]], Tensor]
) -> np.ndarray:
    """Lower and run the steps on arrays of one dtype; returns the result, row-major."""
    builder = PlanBuilder(dtype=arrays[0].dtype, label=place)
    operands = [builder.external(np.ascontiguousarray(array), f"{place} operand {i}") for i, array in enumerate(arrays)]
    result = builder.as_layout(steps(builder, operands), Layout.ROW_MAJOR)
    builder.pin(result)
    memory = builder.finish(get_num_threads())
    memory.program.run()
    return memory.view(result).reshape(result.shape).copy()


def _arrays(place: str, **named: np.ndarray | None) -> list[np.ndarray]:
    """The arrays given, checked to be of one floating-point dtype."""
    arrays = {name: np.asarray(array) for name, array in named.items() if array is not None}
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) != 1 or dtypes - {np.dtype(np.float32), np.dtype(np.float64)}:
        found = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise DTypeError(explain(place, "arrays are all float32 or all float64", found))
    return list(arrays.values())


def _call(
    op: Convolution,
    place: str,
    rank: int,
    specs: Sequence[Sequence[int]],
    dtype: np.dtype,
    groups: int,
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    output_padding: Sizes = 0,
) -> Call:
    """A node with these attributes, checked by its operator's shape rule."""
    whole(place, "groups", groups, least=1)
    for name, value in (("strides", stride), ("pads", padding), ("dilations", dilation)):
        if isinstance(value, (list, tuple)) and len(value) != rank:
            raise ShapeError(explain(place, f"{name} has {rank} entries for {rank} spatial axes", f"{value}"))
    if len(specs[1]) == rank + 2:
        _, strides, dilations, pads = conv_sizes(place, rank, specs[1][2:], stride, padding, dilation)
    else:  # the shape rule says what is wrong
        strides = dilations = (1,) * rank
        pads = [0] * 2 * rank
    attributes = {"group": int(groups), "strides": list(strides), "dilations": list(dilations), "pads": pads}
    if op.type == "ConvTranspose":
        attributes["output_padding"] = list(sizes(place, "output_padding", output_padding, rank, 0))
    call = Call(
        name=place,
        op_type=op.type,
        opset=22,
        attributes=attributes,
        specs=[Spec(tuple(shape), dtype) for shape in specs],
    )
    if len(specs[0]) != rank + 2:
        raise call.error(ShapeError, f"x has {rank + 2} axes (N, C, spatial)", f"shape {tuple(specs[0])}")
    call.results = op.shapes(call)
    return call


def _expect(place: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ShapeError(explain(place, f"{name} has the shape that follows, {shape}", str(array.shape)))


def _forward(
    op: Convolution,
    rank: int,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    groups: int,
    **geometry: Any,
) -> np.ndarray:
    place = _PLACE[op.type].format(rank)
    arrays = _arrays(place, x=x, w=w, b=b)
    call = _call(op, place, rank, [array.shape for array in arrays], arrays[0].dtype, groups, **geometry)

    def steps(lower: PlanBuilder, operands: list[Tensor]) -> Tensor:
        bias = operands[2] if b is not None else None
        shape = call.results[0].shape
        return gather(lower, op.geometry(call), op.role, operands[0], operands[1], bias, shape)

    return _compute(place, arrays, steps)


def _input_gradient(
    op: Convolution,
    rank: int,
    dy: np.ndarray,
    w: np.ndarray,
    input_shape: Sequence[int],
    groups: int,
    **geometry: Any,
) -> np.ndarray:
    place = _PLACE[op.type].format(rank) + "_input_gradient"
    arrays = _arrays(place, dy=dy, w=w)
    shape = tuple(int(n) for n in input_shape)
    call = _call(op, place, rank, [shape, arrays[1].shape], arrays[0].dtype, groups, **geometry)
    _expect(place, "dy", arrays[0], call.results[0].shape)

    def steps(lower: PlanBuilder, operands: list[Tensor]) -> Tensor:
        return gather(lower, op.geometry(call), op.transposed_role, operands[0], operands[1], None, shape)

    return _compute(place, arrays, steps)


def _weight_gradient(
    op: Convolution,
    rank: int,
    dy: np.ndarray,
    x: np.ndarray,
    kernel_shape: Sequence[int],
    groups: int,
    **geometry: Any,
) -> np.ndarray:
    place = _PLACE[op.type].format(rank) + "_weight_gradient"
    arrays = _arrays(place, dy=dy, x=x)
    if arrays[0].ndim != rank + 2 or arrays[1].ndim != rank + 2 or len(kernel_shape) != rank:
        raise ShapeError(
            explain(
                place,
                f"dy and x have {rank + 2} axes and kernel_shape {rank} sizes",
                f"dy {arrays[0].shape}, x {arrays[1].shape}, kernel_shape {tuple(kernel_shape)}",
            )
        )
    outer, inner = (arrays[0], arrays[1]) if op.type == "Conv" else (arrays[1], arrays[0])
    shape = (outer.shape[1], inner.shape[1] // max(1, groups), *map(int, kernel_shape))
    call = _call(op, place, rank, [arrays[1].shape, shape], arrays[0].dtype, groups, **geometry)
    _expect(place, "dy", arrays[0], call.results[0].shape)

    def steps(lower: PlanBuilder, operands: list[Tensor]) -> Tensor:
        dy, x = operands
        return op.weight_gradient(lower, op.geometry(call), x, dy, shape)

    return _compute(place, arrays, steps)


_PLACE = {"Conv": "conv{}d", "ConvTranspose": "conv_transpose{}d"}


def _named(rank: int) -> tuple[Callable[..., np.ndarray], ...]:
    """The six public functions over `rank` spatial axes."""

    def conv(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> np.ndarray:
        """y (N, K, spatial') of x (N, C, spatial), w (K, C/groups, kernel), b (K,).

        Raises:
            ShapeError: shapes that do not fit together.
            DTypeError: not all float32 or all float64.
        """
        return _forward(Conv(), rank, x, w, b, groups, stride=stride, padding=padding, dilation=dilation)

    def input_gradient(
        dy: np.ndarray,
        w: np.ndarray,
        input_shape: Sequence[int],
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> np.ndarray:
        """dx of shape `input_shape` (N, C, spatial) from dy (N, K, spatial') and w (K, C/groups, kernel).

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _input_gradient(
            Conv(), rank, dy, w, input_shape, groups, stride=stride, padding=padding, dilation=dilation
        )

    def weight_gradient(
        dy: np.ndarray,
        x: np.ndarray,
        kernel_shape: Sequence[int],
        stride: Sizes = 1,
        padding: Sizes | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> np.ndarray:
        """dw (K, C/groups, kernel) from dy (N, K, spatial') and x (N, C, spatial); kernel_shape: spatial sizes.

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _weight_gradient(
            Conv(), rank, dy, x, kernel_shape, groups, stride=stride, padding=padding, dilation=dilation
        )

    def transpose(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        dilation: Sizes = 1,
    ) -> np.ndarray:
        """y (N, K, spatial') of x (N, C, spatial), w (C, K/groups, kernel), b (K,): the transposed convolution.

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _forward(
            ConvTranspose(), rank, x, w, b, groups,
            stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        )  # fmt: skip

    def transpose_input_gradient(
        dy: np.ndarray,
        w: np.ndarray,
        input_shape: Sequence[int],
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        dilation: Sizes = 1,
    ) -> np.ndarray:
        """dx of shape `input_shape` (N, C, spatial) from dy (N, K, spatial') and w (C, K/groups, kernel).

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _input_gradient(
            ConvTranspose(), rank, dy, w, input_shape, groups,
            stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        )  # fmt: skip

    def transpose_weight_gradient(
        dy: np.ndarray,
        x: np.ndarray,
        kernel_shape: Sequence[int],
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        dilation: Sizes = 1,
    ) -> np.ndarray:
        """dw (C, K/groups, kernel) from dy (N, K, spatial') and x (N, C, spatial); kernel_shape: spatial sizes.

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _weight_gradient(
            ConvTranspose(), rank, dy, x, kernel_shape, groups,
            stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        )  # fmt: skip

    functions = (
        conv, input_gradient, weight_gradient, transpose, transpose_input_gradient, transpose_weight_gradient,
    )  # fmt: skip
    suffixes = ("", "_input_gradient", "_weight_gradient")
    names = [f"conv{t}{rank}d{suffix}" for t in ("", "_transpose") for suffix in suffixes]
    for name, function in zip(names, functions):
        function.__name__ = function.__qualname__ = name
    return functions


(
    conv1d, conv1d_input_gradient, conv1d_weight_gradient,
    conv_transpose1d, conv_transpose1d_input_gradient, conv_transpose1d_weight_gradient,
) = _named(1)  # fmt: skip
(
    conv2d, conv2d_input_gradient, conv2d_weight_gradient,
    conv_transpose2d, conv_transpose2d_input_gradient, conv_transpose2d_weight_gradient,
) = _named(2)  # fmt: skip
(
    conv3d, conv3d_input_gradient, conv3d_weight_gradient,
    conv_transpose3d, conv_transpose3d_input_gradient, conv_transpose3d_weight_gradient,
) = _named(3)  # fmt: skip
