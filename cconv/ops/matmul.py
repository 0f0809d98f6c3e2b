"""Gemm and MatMul.

Both compute C = A @ B. The kernel takes strides, so that a transposed matrix is read without a copy. The gradients are
products of the same kind:

    dA = dC @ B^T        dB = A^T @ dC
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

import cconv.kernels.gemm.gemm as gemm
from cconv.errors import DTypeError, ShapeError
from cconv.ops.elementwise import binary, is_real, is_whole, scaled
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import sum_to
from cconv.ops.tensor import Layout, Spec, Tensor


@dataclass(frozen=True)
class Matrices:
    """A tensor viewed as a batch of matrices (batch..., rows, columns).

    Attributes:
        strides: distance in elements between neighbouring rows and between neighbouring columns.
        batch: shape of the batch axes.
        batch_strides: distance in elements between neighbours along each batch axis.
    """

    tensor: Tensor
    rows: int
    columns: int
    strides: tuple[int, int]
    batch: tuple[int, ...] = ()
    batch_strides: tuple[int, ...] = ()

    @property
    def transposed(self) -> Matrices:
        return Matrices(self.tensor, self.columns, self.rows, self.strides[::-1], self.batch, self.batch_strides)

    def offsets(self, batch: tuple[int, ...]) -> tuple[int, ...]:
        """Offset of each matrix in elements, after broadcasting the batch axes to the shape `batch`."""
        missing = len(batch) - len(self.batch)
        strides = (0,) * missing + tuple(0 if n == 1 else s for n, s in zip(self.batch, self.batch_strides))
        total = np.zeros((), dtype=np.int64)
        for n, stride in zip(batch, strides):
            total = total[..., None] + np.arange(n) * stride
        return tuple(total.reshape(-1).tolist())


def matrices(tensor: Tensor, shape: Sequence[int]) -> Matrices:
    """View a row-major tensor as matrices of the shape (batch..., rows, columns)."""
    *batch, rows, columns = shape
    strides = []
    step = rows * columns
    for n in reversed(batch):
        strides.append(step)
        step *= n
    return Matrices(tensor, rows, columns, (columns, 1), tuple(batch), tuple(strides[::-1]))


def multiply(lower: Lowering, a: Matrices, b: Matrices, alpha: float = 1.0, bias: Tensor | None = None) -> Tensor:
    """Emit alpha * A @ B + bias. Returns a tensor (batch..., rows, columns).

    Args:
        bias: one value per column, or None.
    """
    batch = np.broadcast_shapes(a.batch, b.batch)
    result = lower.tensor((*batch, a.rows, b.columns))
    step = gemm.Gemm(
        lower.build,
        a.rows,
        b.columns,
        a.columns,
        a.strides,
        b.strides,
        a.offsets(batch),
        b.offsets(batch),
        alpha,
        bias is not None,
    )
    lower.emit(step, reads=[a.tensor, b.tensor, bias], writes=[result])
    return result


def reshaped(lower: Lowering, tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return lower.as_layout(tensor, Layout.ROW_MAJOR).reshaped(tuple(shape))


def require_numbers(call: Call) -> None:
    """Check that all inputs are floating-point, or that all are integers of one dtype known before the model runs.

    Raises:
        DTypeError: neither is the case.
    """
    dtypes = [spec.dtype for spec in call.specs if spec is not None]
    known = call.known and is_whole(dtypes[0]) and len(set(dtypes)) == 1
    if not known and not all(is_real(dtype) for dtype in dtypes):
        raise call.error(
            DTypeError,
            "multiplies floating-point numbers, and integers of one dtype that are known before the model runs",
            " and ".join(map(str, dtypes)),
            "Cast them to float before, and the result back.",
        )


class Gemm(Operator):
    """Y = alpha * A' @ B' + beta * C.

    A' (M, K) is A, or with transA=1 its transpose. B' (K, N) is B, or with transB=1 its transpose. C broadcasts to
    (M, N).
    """

    type = "Gemm"
    inputs = (2, 3)

    def shapes(self, call: Call) -> list[Spec]:
        require_numbers(call)
        a = self.require_rank(call, 0, 2, 2, "(M, K), or (K, M) with transA")
        b = self.require_rank(call, 1, 2, 2, "(K, N), or (N, K) with transB")
        rows, inner = a.shape[::-1] if call.attribute("transA", 0) else a.shape
        other, columns = b.shape[::-1] if call.attribute("transB", 0) else b.shape
        if inner != other:
            raise call.error(
                ShapeError,
                "A' has as many columns as B' has rows",
                f"A' ({rows}, {inner}) and B' ({other}, {columns})",
                f"Give inputs with {other} values per row.",
            )
        if call.has(2):
            c = call.spec(2).shape
            padded = (1,) * (2 - len(c)) + c
            if len(c) > 2 or any(n not in (1, m) for n, m in zip(padded, (rows, columns))):
                raise call.error(ShapeError, f"C broadcasts to ({rows}, {columns})", str(c))
        return [Spec((rows, columns), a.dtype)]

    def operands(self, call: Call) -> tuple[Matrices, Matrices]:
        a, b = (matrices(call.input(i), call.spec(i).shape) for i in (0, 1))
        return (
            a.transposed if call.attribute("transA", 0) else a,
            b.transposed if call.attribute("transB", 0) else b,
        )

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        a, b = self.operands(call)
        alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
        c = call.input(2) if call.has(2) else None
        fused = c is not None and beta == 1 and c.shape in ((b.columns,), (1, b.columns))
        y = multiply(lower, a, b, alpha, c if fused else None)
        if c is not None and not fused:
            y = binary(lower, "add", y, scaled(lower, c, beta))
        return [y]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        a, b = self.operands(call)
        dy = matrices(grads[0], call.results[0].shape)
        alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
        da = db = dc = None
        # If an operand is transposed, the result must be too: (X @ Y)^T = Y^T @ X^T.
        if call.needs_gradient(0):
            flip = call.attribute("transA", 0)
            da = multiply(lower, b, dy.transposed, alpha) if flip else multiply(lower, dy, b.transposed, alpha)
        if call.needs_gradient(1):
            flip = call.attribute("transB", 0)
            db = multiply(lower, dy.transposed, a, alpha) if flip else multiply(lower, a.transposed, dy, alpha)
        if call.needs_gradient(2):
            dc = scaled(lower, sum_to(lower, grads[0], call.spec(2).shape), beta)
        return [da, db, dc][: len(call.specs)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        bias = call.spec(2).shape if call.has(2) else ()
        return set(moving) == {0} and not call.attribute("transA", 0) and (len(bias) < 2 or bias[0] == 1)

    def flops(self, call: Call) -> int:
        inner = call.spec(0).shape[0 if call.attribute("transA", 0) else 1]
        return 2 * call.results[0].size * inner


class MatMul(Operator):
    """Y = A @ B as in numpy.matmul. Batch axes broadcast. A 1-D operand is a row if it is A, a column if it is B."""

    type = "MatMul"
    inputs = (2, 2)

    def shapes(self, call: Call) -> list[Spec]:
        require_numbers(call)
        a, b = self.expanded(call)
        batch = call_broadcast(call, a[:-2], b[:-2])
        if a[-1] != b[-2]:
            raise call.error(
                ShapeError,
                "A has as many columns as B has rows",
                f"A {call.spec(0).shape} and B {call.spec(1).shape}",
            )
        shape = [*batch, a[-2], b[-1]]
        if len(call.spec(0).shape) == 1:
            del shape[-2]
        if len(call.spec(1).shape) == 1:
            del shape[-1]
        return [Spec(tuple(shape), call.spec(0).dtype)]

    def expanded(self, call: Call) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of A and B, each with at least two axes: a 1-D operand becomes a row or a column."""
        a, b = call.spec(0).shape, call.spec(1).shape
        if not a or not b:
            raise call.error(ShapeError, "A and B have at least one axis", f"A {a} and B {b}")
        return (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b

    def operands(self, lower: Lowering, call: Call) -> tuple[Matrices, Matrices]:
        """A and B as matrices. If B is a single matrix, the batch axes of A are merged with its rows."""
        a_shape, b_shape = self.expanded(call)
        if len(b_shape) == 2:
            a_shape = (int(np.prod(a_shape[:-1])), a_shape[-1])
        a = matrices(lower.as_layout(call.input(0), Layout.ROW_MAJOR), a_shape)
        b = matrices(lower.as_layout(call.input(1), Layout.ROW_MAJOR), b_shape)
        return a, b

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        a, b = self.operands(lower, call)
        return [multiply(lower, a, b).reshaped(call.results[0].shape)]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        a, b = self.operands(lower, call)
        batch = np.broadcast_shapes(a.batch, b.batch)
        dy = lower.as_layout(grads[0], Layout.ROW_MAJOR)
        dc = matrices(dy, (*batch, a.rows, b.columns))
        da = db = None
        if call.needs_gradient(0):
            full = multiply(lower, dc, b.transposed)
            total = sum_to(lower, full, (*a.batch, a.rows, a.columns))
            da = reshaped(lower, total, call.spec(0).shape)
        if call.needs_gradient(1):
            full = multiply(lower, a.transposed, dc)
            total = sum_to(lower, full, (*b.batch, b.rows, b.columns))
            db = reshaped(lower, total, call.spec(1).shape)
        return [da, db]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        # Axis 0 of the result is the rows of A if the result is a matrix, else the first batch axis.
        if len(call.results[0].shape) == 2:
            return set(moving) == {0} and len(call.spec(0).shape) == len(call.spec(1).shape) == 2
        return len(call.results[0].shape) > 2 and self.broadcasts_per_example(call, moving)

    def flops(self, call: Call) -> int:
        return 2 * call.results[0].size * self.expanded(call)[0][-1]


def call_broadcast(call: Call, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(a, b)
    except ValueError:
        raise call.error(
            ShapeError, "batch axes of A and B, aligned at the last, are equal or 1", f"{a} and {b}"
        ) from None


OPERATORS = [Gemm(), MatMul()]
