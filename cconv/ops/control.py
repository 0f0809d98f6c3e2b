"""If: one of two graphs, chosen when the plan is made."""

from __future__ import annotations

from cconv.errors import ModelError, ShapeError
from cconv.ops.operator import Call, Operator
from cconv.ops.tensor import Spec


class If(Operator):
    """Run then_branch if the condition is true, else else_branch. The condition must be known before the model runs.

    The inputs are the condition and the values of the outer graph that the branches read.
    """

    type = "If"
    inputs = (1, 1 << 30)

    def branch(self, call: Call) -> str:
        condition = call.constant(0, "the condition")
        if condition.size != 1:
            raise call.error(ShapeError, "the condition is one bool", f"shape {condition.shape}")
        return "then_branch" if condition.item() else "else_branch"

    def shapes(self, call: Call) -> list[Spec]:
        raise call.error(ModelError, "names the graphs then_branch and else_branch", "none")


OPERATORS: list[Operator] = [If()]
