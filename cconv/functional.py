"""Convolutions on NumPy arrays: the kernels without a model.

    conv1d conv2d conv3d                             y = x * w + b
    conv{1,2,3}d_input_gradient                      dx from dy and w
    conv{1,2,3}d_weight_gradient                     dw from dy and x
    conv_transpose1d conv_transpose2d conv_transpose3d

Arrays are in ONNX's order: x (N, C, spatial), w (K, C/groups, kernel), y (N, K, spatial'); for transposed
convolutions w (C, K/groups, kernel). All float32, or all float64. Sizes are per axis or one for all axes.
Names and meaning of the arguments are PyTorch's (torch.nn.functional).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cconv.errors import DTypeError, ShapeError, explain
from cconv.kernels.threads import get_num_threads
from cconv.ops.conv import Conv, ConvTranspose, gather, weight_gradient
from cconv.ops.operator import Call
from cconv.ops.tensor import Layout, Spec, Tensor
from cconv.plan.lowering import Builder

Sizes = int | Sequence[int]


def _compute(
    place: str, arrays: Sequence[np.ndarray], steps: Callable[[Builder, list[Tensor]], Tensor]
) -> np.ndarray:
    """Lower and run the steps on arrays of one dtype; returns the result, row-major."""
    builder = Builder(dtype=arrays[0].dtype, label=place)
    operands = [
        builder.external(np.ascontiguousarray(array), f"{place} operand {i}")
        for i, array in enumerate(arrays)
    ]
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
    op: Conv | ConvTranspose,
    place: str,
    rank: int,
    specs: Sequence[Sequence[int]],
    dtype: np.dtype,
    groups: int,
    **attributes: Sizes,
) -> Call:
    """A node with these attributes, checked by its operator's shape rule."""
    for name, value in attributes.items():
        sizes = (value,) * rank if isinstance(value, int) else tuple(value)
        attributes[name] = list(sizes * 2 if name == "pads" else sizes)
    call = Call(
        name=place,
        op_type=op.type,
        opset=22,
        attributes={"group": groups, **attributes},
        specs=[Spec(tuple(shape), dtype) for shape in specs],
    )
    if len(specs[0]) != rank + 2:
        raise call.error(ShapeError, f"x has {rank + 2} axes (N, C, spatial)", f"shape {tuple(specs[0])}")
    call.results = op.shapes(call)
    return call


def _expect(place: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ShapeError(explain(place, f"{name} has the shape that follows, {shape}", str(array.shape)))


def _conv(
    rank: int,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    place = f"conv{rank}d"
    arrays = _arrays(place, x=x, w=w, b=b)
    op, shapes = Conv(), [array.shape for array in arrays]
    call = _call(
        op, place, rank, shapes, arrays[0].dtype, groups, strides=stride, pads=padding, dilations=dilation
    )

    def steps(lower: Builder, operands: list[Tensor]) -> Tensor:
        bias = operands[2] if b is not None else None
        geometry, shape = op.geometry(call), call.results[0].shape
        return gather(lower, geometry, "forward", operands[0], operands[1], bias, shape)

    return _compute(place, arrays, steps)


def _conv_input_gradient(
    rank: int,
    dy: np.ndarray,
    w: np.ndarray,
    input_shape: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    place = f"conv{rank}d_input_gradient"
    arrays = _arrays(place, dy=dy, w=w)
    op = Conv()
    call = _call(
        op,
        place,
        rank,
        [tuple(input_shape), arrays[1].shape],
        arrays[0].dtype,
        groups,
        strides=stride,
        pads=padding,
        dilations=dilation,
    )
    _expect(place, "dy", arrays[0], call.results[0].shape)

    def steps(lower: Builder, operands: list[Tensor]) -> Tensor:
        return gather(
            lower, op.geometry(call), "input_gradient", operands[0], operands[1], None, tuple(input_shape)
        )

    return _compute(place, arrays, steps)


def _conv_weight_gradient(
    rank: int,
    dy: np.ndarray,
    x: np.ndarray,
    kernel_shape: Sequence[int],
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    place = f"conv{rank}d_weight_gradient"
    arrays = _arrays(place, dy=dy, x=x)
    if arrays[0].ndim != rank + 2 or arrays[1].ndim != rank + 2 or len(kernel_shape) != rank:
        raise ShapeError(
            explain(
                place,
                f"dy and x have {rank + 2} axes and kernel_shape {rank} sizes",
                f"dy {arrays[0].shape}, x {arrays[1].shape}, kernel_shape {tuple(kernel_shape)}",
            )
        )
    shape = (arrays[0].shape[1], arrays[1].shape[1] // max(1, groups), *kernel_shape)
    op = Conv()
    call = _call(
        op,
        place,
        rank,
        [arrays[1].shape, shape],
        arrays[0].dtype,
        groups,
        strides=stride,
        pads=padding,
        dilations=dilation,
    )
    _expect(place, "dy", arrays[0], call.results[0].shape)

    def steps(lower: Builder, operands: list[Tensor]) -> Tensor:
        return weight_gradient(lower, op.geometry(call), operands[1], operands[0], shape)

    return _compute(place, arrays, steps)


def _conv_transpose(
    rank: int,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> np.ndarray:
    place = f"conv_transpose{rank}d"
    arrays = _arrays(place, x=x, w=w, b=b)
    op, shapes = ConvTranspose(), [array.shape for array in arrays]
    call = _call(
        op,
        place,
        rank,
        shapes,
        arrays[0].dtype,
        groups,
        strides=stride,
        pads=padding,
        dilations=dilation,
        output_padding=output_padding,
    )

    def steps(lower: Builder, operands: list[Tensor]) -> Tensor:
        bias = operands[2] if b is not None else None
        geometry, shape = op.geometry(call), call.results[0].shape
        return gather(lower, geometry, "input_gradient", operands[0], operands[1], bias, shape)

    return _compute(place, arrays, steps)


def _named(rank: int) -> tuple[Callable[..., np.ndarray], ...]:
    """The four public functions over `rank` spatial axes."""

    def conv(
        x: np.ndarray,
        w: np.ndarray,
        b: np.ndarray | None = None,
        stride: Sizes = 1,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> np.ndarray:
        """y (N, K, spatial') of x (N, C, spatial), w (K, C/groups, kernel), b (K,).

        Raises:
            ShapeError: shapes that do not fit together.
            DTypeError: not all float32 or all float64.
        """
        return _conv(rank, x, w, b, stride, padding, dilation, groups)

    def input_gradient(
        dy: np.ndarray,
        w: np.ndarray,
        input_shape: Sequence[int],
        stride: Sizes = 1,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> np.ndarray:
        """dx of shape `input_shape` (N, C, spatial) from dy (N, K, spatial') and w (K, C/groups, kernel).

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _conv_input_gradient(rank, dy, w, input_shape, stride, padding, dilation, groups)

    def weight_gradient(
        dy: np.ndarray,
        x: np.ndarray,
        kernel_shape: Sequence[int],
        stride: Sizes = 1,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
    ) -> np.ndarray:
        """dw (K, C/groups, kernel) from dy (N, K, spatial') and x (N, C, spatial); kernel_shape: spatial sizes.

        Raises:
            ShapeError, DTypeError: as the convolution.
        """
        return _conv_weight_gradient(rank, dy, x, kernel_shape, stride, padding, dilation, groups)

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
        return _conv_transpose(rank, x, w, b, stride, padding, output_padding, groups, dilation)

    names = (
        f"conv{rank}d",
        f"conv{rank}d_input_gradient",
        f"conv{rank}d_weight_gradient",
        f"conv_transpose{rank}d",
    )
    functions = (conv, input_gradient, weight_gradient, transpose)
    for name, function in zip(names, functions):
        function.__name__ = function.__qualname__ = name
    return functions


conv1d, conv1d_input_gradient, conv1d_weight_gradient, conv_transpose1d = _named(1)
conv2d, conv2d_input_gradient, conv2d_weight_gradient, conv_transpose2d = _named(2)
conv3d, conv3d_input_gradient, conv3d_weight_gradient, conv_transpose3d = _named(3)
