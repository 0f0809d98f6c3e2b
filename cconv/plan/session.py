"""Session: what stands behind Model.run. Checks the inputs, keeps the plans of the last few shapes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from cconv.errors import DTypeError, ShapeError, ValueRangeError, explain
from cconv.graph.model import Model
from cconv.graph.nodes import needed_for
from cconv.kernels.schedule import PRECISIONS
from cconv.kernels.threads import get_num_threads
from cconv.ops.tensor import Spec
from cconv.plan.plan import Plan, inference_plan

# Plans kept at once: a batch size, the last batch's, and a single sample for two numbers of threads each.
KEPT = 6


class Session:
    """Runs a model; one per state of its graph. Safe to use from several Python threads, one at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._specs = model.input_specs
        self._outputs = model.output_names
        self._nodes = needed_for(model.nodes, self._outputs)
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, inputs: Any, threads: int | None = None, precision: str = "fast") -> Any:
        """See Model.run."""
        if precision not in PRECISIONS:
            known = " or ".join(repr(name) for name in PRECISIONS)
            raise ValueRangeError(explain("run", f"precision is {known}", repr(precision)))
        feeds = self._feeds(inputs)
        with self._lock:
            plan = self._plan({name: value.shape for name, value in feeds.items()}, threads, precision)
            for name, value in feeds.items():
                plan.inputs[name][...] = value
            label, status = plan.run()
            if status:
                raise ValueRangeError(
                    explain(f"node '{label}'", "indices lie within their axis", "one that does not")
                )
            results = {name: plan.outputs[name].copy() for name in self._outputs}
        return results[self._outputs[0]] if len(results) == 1 else results

    def _plan(self, shapes: Mapping[str, tuple[int, ...]], threads: int | None, precision: str) -> Plan:
        threads = threads or get_num_threads()
        key = (tuple(shapes.items()), threads, precision)
        if key not in self._plans or self._plans[key].outdated:
            model = self._model
            self._plans[key] = inference_plan(
                self._nodes,
                {name: Spec(shape, self._specs[name].dtype) for name, shape in shapes.items()},
                self._outputs,
                model.weights,
                model.constants,
                threads=threads,
                limits=model.limits,
                precision=precision,
            )
            if len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return self._plans[key]

    def _feeds(self, inputs: Any) -> dict[str, np.ndarray]:
        """The inputs by name, in the model's order, each as the model declares it."""
        names = list(self._specs)
        if not isinstance(inputs, Mapping):
            if len(names) != 1:
                raise ValueRangeError(
                    explain(
                        "inputs",
                        f"a model of {len(names)} inputs takes a dict of arrays by name",
                        type(inputs).__name__,
                        f"Its inputs: {', '.join(repr(name) for name in names) or 'none'}.",
                    )
                )
            inputs = {names[0]: inputs}
        if set(inputs) != set(names):
            raise ValueRangeError(
                explain(
                    "inputs",
                    f"the names are {', '.join(repr(name) for name in names) or 'none'}",
                    ", ".join(repr(name) for name in inputs) or "none",
                )
            )
        feeds = {name: np.asarray(inputs[name]) for name in names}
        sizes: dict[str, tuple[str, int]] = {}
        for name, value in feeds.items():
            dims, dtype = self._specs[name]
            place = f"input {name!r}"
            if value.dtype != dtype:
                raise DTypeError(
                    explain(place, f"is {dtype}", f"{value.dtype}", f"Convert it: x.astype(np.{dtype}).")
                )
            wanted = dims if dims is not None else value.shape
            fits = len(wanted) == value.ndim and all(
                not isinstance(n, int) or n == m for n, m in zip(wanted, value.shape)
            )
            if not fits:
                shown = ", ".join("any" if n is None else str(n) for n in wanted)
                raise ShapeError(explain(place, f"has shape ({shown})", f"shape {value.shape}"))
            if 0 in value.shape:
                raise ShapeError(explain(place, "is not empty", f"shape {value.shape}"))
            for n, m in zip(wanted, value.shape):
                if isinstance(n, str) and sizes.setdefault(n, (name, m))[1] != m:
                    first, size = sizes[n]
                    raise ShapeError(
                        explain(place, f"axis {n!r} has the size {size} that it has in {first!r}", str(m))
                    )
        return feeds
