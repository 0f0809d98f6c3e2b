"""Einsum, computed with transposes, batched matrix products and sums.

Each axis has a letter, its label. Operands are contracted pairwise from the left, as batched matrix products. An axis
that both operands have is a batch axis if the result or a later operand has it too; otherwise it is part of the inner
axis. An axis that only one operand has is part of the rows or columns. The gradient is again a batched matrix product:

    C[batch, left, right] = sum over inner of A[batch, left, inner] * B[batch, inner, right]
    dA[batch, left, inner] = sum over right of dC[batch, left, right] * B[batch, inner, right]      dB likewise

Every step of the forward pass stores a function that computes its gradient. The backward pass calls these functions
from the result back to the operands.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from cconv.errors import ModelError, ShapeError, UnsupportedOpError
from cconv.ops.elementwise import binary, is_real
from cconv.ops.matmul import Matrices, matrices, multiply
from cconv.ops.operator import Call, Lowering, Operator
from cconv.ops.reduce import reduced, repeated
from cconv.ops.strided import copy, zeros
from cconv.ops.tensor import Layout, Spec, Tensor

# Character that labels the last axis covered by an ellipsis. The axis before it has the next character, and so on.
ELLIPSIS = 0x2460

Back = Callable[[Tensor], Tensor]


class Equation(NamedTuple):
    """A parsed equation.

    Attributes:
        operands: for each operand, the labels of its axes, one character per axis.
        result: the labels of the result's axes.
        sizes: size of the axes with each label.
    """

    operands: list[str]
    result: str
    sizes: dict[str, int]


@dataclass(frozen=True, eq=False)
class Term:
    """A tensor with one label per axis, and how it was computed.

    Attributes:
        sources: the terms that this one was computed from, each with the function that computes the gradient of that
            term from the gradient of this one.
    """

    tensor: Tensor
    labels: str
    sources: tuple[tuple[Term, Back], ...] = ()


class Einsum(Operator):
    """The sum of products of the inputs that the equation describes, as in numpy.einsum."""

    type = "Einsum"
    since = 12
    inputs = (1, 1 << 30)

    def equation(self, call: Call) -> Equation:
        text = "".join(str(call.attribute("equation", "")).split())
        left, arrow, right = text.partition("->")
        terms, shapes = left.split(","), [call.spec(i).shape for i in range(len(call.specs))]
        if len(terms) != len(shapes):
            raise call.error(ModelError, f"the equation has a term for each of {len(shapes)} inputs", repr(text))
        operands = []
        for term, shape in zip(terms, shapes):
            letters = term.replace("...", "", 1)
            missing = len(shape) - len(letters)
            if (letters and not letters.isalpha()) or missing < 0 or (missing and letters == term):
                raise call.error(ShapeError, "a term has a letter for each axis, or '...'", f"{term!r} for {shape}")
            operands.append(term.replace("...", ellipsis(missing)))
        every = "".join(operands)
        covered = ellipsis(sum(ord(label) >= ELLIPSIS for label in set(every)))
        if not arrow:
            right = "..." + "".join(sorted(c for c, n in Counter(every).items() if n == 1 and ord(c) < ELLIPSIS))
        result = right.replace("...", covered, 1)
        lost = covered and "..." not in right
        if lost or len(set(result)) != len(result) or not set(result) <= set(every):
            raise call.error(ModelError, "the result names labels of the inputs, each once", repr(text))
        sizes: dict[str, int] = {}
        for labels, shape in zip(operands, shapes):
            for label, n in zip(labels, shape):
                if 1 not in (n, sizes.get(label, 1)) and sizes[label] != n:
                    raise call.error(ShapeError, "axes of one label have one size, or 1", f"{text!r} for {shapes}")
                sizes[label] = n if sizes.get(label, 1) == 1 else sizes[label]
        return Equation(operands, result, sizes)

    def shapes(self, call: Call) -> list[Spec]:
        if not all(spec is not None and is_real(spec.dtype) for spec in call.specs):
            raise call.error(UnsupportedOpError, "multiplies floating-point numbers", f"{call.specs}")
        equation = self.equation(call)
        return [Spec(tuple(equation.sizes[label] for label in equation.result), call.spec(0).dtype)]

    def separates(self, call: Call, moving: Collection[int]) -> bool:
        """True if the result's first label is also the first of every operand in `moving`, and labels no other axis."""
        equation = self.equation(call)
        label = equation.result[:1]
        firsts = all(labels[:1] == label for i, labels in enumerate(equation.operands) if i in moving)
        return label != "" and firsts and "".join(equation.operands).count(label) == len(moving)

    def forward(self, lower: Lowering, call: Call) -> Sequence[Tensor]:
        operands, result, sizes = self.equation(call)
        work = Work(lower)
        leaves = [Term(call.input(i), labels) for i, labels in enumerate(operands)]
        terms = [work.without_ones(work.diagonal(leaf), sizes) for leaf in leaves]
        total = terms[0]
        for i, term in enumerate(terms[1:], 2):
            needed = {*result, *(label for other in terms[i:] for label in other.labels)}
            keep_first, keep_second = needed.union(term.labels), needed.union(total.labels)
            total = work.product(work.summed(total, keep_first), work.summed(term, keep_second), needed)
        total = work.permuted(work.summed(total, set(result)), result)
        call.saved.update(leaves=leaves, total=total)
        return [total.tensor]

    def gradient(self, lower: Lowering, call: Call, grads: list[Tensor | None]) -> Sequence[Tensor | None]:
        assert grads[0] is not None
        leaves, total = call.saved["leaves"], call.saved["total"]
        wanted = {id(leaf) for leaf, wants in zip(leaves, call.gradients_needed) if wants}
        gradients: dict[int, Tensor] = {}

        def needs_gradient(term: Term) -> bool:
            """Whether the gradient of the term, or of a term that it was computed from, is needed."""
            return id(term) in wanted or any(needs_gradient(source) for source, _ in term.sources)

        def walk(term: Term, grad: Tensor) -> None:
            if not term.sources:
                gradients[id(term)] = grad
            for source, back in term.sources:
                if needs_gradient(source):
                    walk(source, back(grad))

        walk(total, grads[0])
        return [gradients.get(id(leaf)) if wants else None for leaf, wants in zip(leaves, call.gradients_needed)]

    def flops(self, call: Call) -> int:
        return 2 * math.prod(self.equation(call).sizes.values()) if len(call.specs) > 1 else 0


def ellipsis(count: int) -> str:
    """The labels of the `count` axes covered by an ellipsis, as a string."""
    return "".join(chr(ELLIPSIS + i) for i in reversed(range(count)))


class Work:
    """The operations from which an equation is computed. Each emits its steps and returns a Term with its gradient."""

    def __init__(self, lower: Lowering) -> None:
        self.lower = lower

    def diagonal(self, term: Term) -> Term:
        """Merge axes with the same label into one axis, which holds the diagonal: elements with equal positions along
        these axes."""
        labels = "".join(dict.fromkeys(term.labels))
        if labels == term.labels:
            return term
        x = term.tensor
        shape = [x.shape[term.labels.index(label)] for label in labels]

        def strides(of: Tensor) -> list[int]:
            return [sum(s for s, other in zip(of.strides, term.labels) if other == label) for label in labels]

        y = self.lower.tensor(shape)
        copy(self.lower, x, y, shape, (strides(x), 0), (y.strides, 0))

        def back(dy: Tensor) -> Tensor:
            dx = zeros(self.lower, x.shape, Layout.ROW_MAJOR, dy.dtype)
            copy(self.lower, dy, dx, shape, (dy.strides, 0), (strides(dx), 0), dx)
            return dx

        return Term(y, labels, ((term, back),))

    def without_ones(self, term: Term, sizes: Mapping[str, int]) -> Term:
        """Remove axes of size 1 whose label has a larger size in another term. (They broadcast.)"""
        shape = term.tensor.shape
        labels = "".join(label for label, n in zip(term.labels, shape) if n == sizes[label])
        if labels == term.labels:
            return term
        x = self.lower.as_layout(term.tensor, Layout.ROW_MAJOR)
        y = x.reshaped(tuple(sizes[label] for label in labels))
        return Term(y, labels, ((term, lambda dy: self.rows(dy).reshaped(shape)),))

    def summed(self, term: Term, keep: set[str]) -> Term:
        """Sum a term over the axes whose label is not in `keep`."""
        labels = "".join(label for label in term.labels if label in keep)
        if labels == term.labels:
            return term
        shape = term.tensor.shape
        ones = tuple(n if label in keep else 1 for n, label in zip(shape, term.labels))
        total = reduced(self.lower, "sum", term.tensor, [i for i, label in enumerate(term.labels) if label not in keep])
        y = self.rows(total).reshaped(tuple(n for n, label in zip(shape, term.labels) if label in keep))

        def back(dy: Tensor) -> Tensor:
            return repeated(self.lower, self.rows(dy).reshaped(ones), shape, Layout.ROW_MAJOR)

        return Term(y, labels, ((term, back),))

    def permuted(self, term: Term, labels: str) -> Term:
        """Transpose a term so that its axes are in the order of `labels`."""
        if labels == term.labels:
            return term
        y = self.order(term.tensor, term.labels, labels)
        return Term(y, labels, ((term, lambda dy: self.order(dy, labels, term.labels)),))

    def product(self, a: Term, b: Term, needed: set[str]) -> Term:
        """Multiply two terms and sum over the labels that both have and that are not in `needed`."""
        c, labels = self.contract(a.tensor, a.labels, b.tensor, b.labels, needed)

        def back_to(source: Term, other: Term) -> Back:
            def back(dc: Tensor) -> Tensor:
                grad, grad_labels = self.contract(dc, labels, other.tensor, other.labels, set(source.labels))
                return self.order(grad, grad_labels, source.labels)

            return back

        return Term(c, labels, ((a, back_to(a, b)), (b, back_to(b, a))))

    def contract(self, a: Tensor, a_labels: str, b: Tensor, b_labels: str, needed: set[str]) -> tuple[Tensor, str]:
        """Emit the product of two tensors, summed over the labels that both have and that are not in `needed`.

        Returns:
            The product and the labels of its axes.
        """
        batch = "".join(label for label in a_labels if label in b_labels and label in needed)
        inner = "".join(label for label in a_labels if label in b_labels and label not in needed)
        left = "".join(label for label in a_labels if label not in b_labels)
        right = "".join(label for label in b_labels if label not in a_labels)
        sizes = {**dict(zip(a_labels, a.shape)), **dict(zip(b_labels, b.shape))}
        shape = tuple(sizes[label] for label in batch + left + right)
        if inner:
            first = self.matrices(a, a_labels, batch, left, inner)
            c = multiply(self.lower, first, self.matrices(b, b_labels, batch, inner, right))
        else:
            x = self.rows(self.order(a, a_labels, batch + left))
            y = self.rows(self.order(b, b_labels, batch + right))
            x = x.reshaped(x.shape + (1,) * len(right))
            y = y.reshaped(shape[: len(batch)] + (1,) * len(left) + y.shape[len(batch) :])
            c = self.rows(binary(self.lower, "mul", x, y))
        return c.reshaped(shape), batch + left + right

    def matrices(self, x: Tensor, labels: str, batch: str, rows: str, columns: str) -> Matrices:
        """View x as a batch of matrices. x is copied only if its strides do not allow the view.

        Args:
            batch, rows, columns: labels of the axes that form the batch, the rows and the columns.
        """
        sizes, strides = dict(zip(labels, x.shape)), dict(zip(labels, x.strides))
        steps = [self.merged([(sizes[label], strides[label]) for label in group]) for group in (rows, columns)]
        count = [math.prod(sizes[label] for label in group) for group in (rows, columns)]
        if None in steps or 1 not in steps:
            return matrices(self.order(x, labels, batch + rows + columns), [*(sizes[i] for i in batch), *count])
        row, column = (step or 0 for step in steps)
        sides = tuple(sizes[label] for label in batch), tuple(strides[label] for label in batch)
        return Matrices(x, count[0], count[1], (row, column), *sides)

    def merged(self, axes: Sequence[tuple[int, int]]) -> int | None:
        """Stride of several axes, given as (size, stride), merged into one. None if they cannot be merged."""
        longer = [axis for axis in axes if axis[0] != 1]
        fits = all(stride == n * inner for (_, stride), (n, inner) in pairwise(longer))
        return (longer[-1][1] if longer else 1) if fits else None

    def order(self, x: Tensor, labels: str, target: str) -> Tensor:
        """x with its axes in the order of the labels `target`, row-major. A view if possible, else a copy."""
        shape = tuple(x.shape[labels.index(label)] for label in target)
        strides = tuple(x.strides[labels.index(label)] for label in target)
        view = Tensor(x.buffer, shape, x.dtype)
        if all(n == 1 or s == t for n, s, t in zip(shape, strides, view.strides)):
            return view
        y = self.lower.tensor(shape)
        copy(self.lower, x, y, shape, (strides, 0), (y.strides, 0))
        return y

    def rows(self, x: Tensor) -> Tensor:
        return self.lower.as_layout(x, Layout.ROW_MAJOR)


OPERATORS: list[Operator] = [Einsum()]
