"""DepthToSpace and SpaceToDepth: move blocks of pixels to channels and back. Each computes the gradient of the other.

Both permute the axes (image, channel, row of the block, column of the block, row, column) of a feature map. One strided
copy does this.
"""

from __future__ import annotations

from collections.abc import Sequence

from cconv.errors import ShapeError, ValueRangeError
from cconv.kernels.move.copy import Copy
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.tensor import Layout, Spec, Tensor


def block_of(call: Call) -> int:
    block = call.attribute("blocksize", 0)
    if block < 1:
        raise call.error(ValueRangeError, "blocksize is at least 1", str(block))
    return int(block)


def rearrange(lower: Lowering, x: Tensor, block: int, mode: str, to_depth: bool) -> Tensor:
    """Emit the copy between a tensor (N, C * b * b, H, W), here `deep`, and a tensor (N, C, H * b, W * b), here `wide`.

    Args:
        x: the deep tensor, or the wide one if to_depth.
        block: b, the edge of a block in pixels.
        mode: order of the deep channels, "DCR" or "CRD".
        to_depth: whether to copy from wide to deep.
    """
    n, c, h, w = x.shape
    shape = (n, c * block**2, h // block, w // block) if to_depth else (n, c // block**2, h * block, w * block)
    y = lower.tensor(shape, Layout.CHANNELS_LAST, x.dtype)
    x = lower.as_layout(x, Layout.CHANNELS_LAST)
    deep, wide = (y, x) if to_depth else (x, y)
    channels = wide.shape[1]
    # Axes: image, channel, row of the block, column of the block, row, column.
    sizes = (n, channels, block, block, deep.shape[2], deep.shape[3])
    sn, sc, sh, sw = wide.strides
    wide_strides = (sn, sc, sh, sw, sh * block, sw * block)
    sn, sc, sh, sw = deep.strides
    if mode == "DCR":  # Deep channels are ordered by row of the block, then column of the block, then channel.
        deep_strides = (sn, sc, sc * block * channels, sc * channels, sh, sw)
    else:  # "CRD": ordered by channel, then row of the block, then column of the block.
        deep_strides = (sn, sc * block**2, sc * block, sc, sh, sw)
    source, target = (wide_strides, deep_strides) if to_depth else (deep_strides, wide_strides)
    step = Copy(lower.build, sizes, source, target, itemsize=x.dtype.itemsize)
    lower.emit(step, reads=[x], writes=[y])
    return y


def mode_of(call: Call) -> str:
    mode = call.attribute("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise call.error(ValueRangeError, "mode is DCR or CRD", repr(mode))
    return mode


class DepthToSpace(Operator):
    """(N, C * b * b, H, W) -> (N, C, H * b, W * b)."""

    type = "DepthToSpace"
    per_example = True

    def shapes(self, call: Call) -> list[Spec]:
        x, block = self.require_rank(call, 0, 4, 4, "(N, C, H, W)"), block_of(call)
        n, c, h, w = x.shape
        if c % block**2:
            raise call.error(ShapeError, f"blocksize^2 = {block**2} divides the channels", f"shape {x.shape}")
        return [Spec((n, c // block**2, h * block, w * block), x.dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [rearrange(lower, call.input(0), block_of(call), mode_of(call), to_depth=False)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [rearrange(lower, grads[0], block_of(call), mode_of(call), to_depth=True)]


class SpaceToDepth(Operator):
    """(N, C, H * b, W * b) -> (N, C * b * b, H, W)."""

    type = "SpaceToDepth"
    per_example = True

    def shapes(self, call: Call) -> list[Spec]:
        x, block = self.require_rank(call, 0, 4, 4, "(N, C, H, W)"), block_of(call)
        n, c, h, w = x.shape
        if h % block or w % block:
            raise call.error(ShapeError, f"blocksize {block} divides height and width", f"shape {x.shape}")
        return [Spec((n, c * block**2, h // block, w // block), x.dtype)]

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        return [rearrange(lower, call.input(0), block_of(call), mode_of(call), to_depth=True)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        return [rearrange(lower, grads[0], block_of(call), mode_of(call), to_depth=False)]


OPERATORS = [DepthToSpace(), SpaceToDepth()]
