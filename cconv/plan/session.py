"""Session: the state behind Model.run. It checks the inputs and keeps the plans of the last few shapes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from cconv.arguments import FIXED_BATCH, refuse_bytes, whole
from cconv.errors import DTypeError, ShapeError, UnsupportedOpError, ValueRangeError, explain
from cconv.graph.graph import Graph
from cconv.graph.nodes import needed_for
from cconv.graph.walk import LARGEST_LIVE
from cconv.graph.weights import memory_of
from cconv.kernels.core.threads import get_num_threads
from cconv.kernels.schedule.algorithms import PRECISIONS
from cconv.ops.elementwise import is_real
from cconv.ops.tensor import Spec
from cconv.plan.cache import PlanCache
from cconv.plan.plan import Plan, inference_plan
from cconv.plan.split import split

# Plans held at once: a batch size, the last batch's, and a single example, for two numbers of threads each.
PLANS = 6


class Session:
    """Runs a graph; one per state of it. Safe to use from several Python threads, one at a time.

    It holds the graph's weights and nodes, not the graph: its owner holds the session, and a circle of references would
    keep the plans' memory until the garbage collector runs.
    """

    def __init__(self, graph: Graph) -> None:
        self._weights, self._constants, self._limits = graph.weights, graph.constants, graph.limits
        self._specs = graph.input_specs
        self._outputs = graph.output_names
        self._results = graph.output_dtypes
        dtypes = [*(spec.dtype for spec in self._specs.values()), *self._results.values()]
        # A plan has one floating-point dtype; the narrower ones are rounded to where they leave it.
        double = any(dtype is not None and dtype == np.float64 for dtype in dtypes)
        self._dtype = np.dtype(np.float64 if double else np.float32)
        # Copies of the weights, which are float32, for a plan of another dtype.
        self._wide = None
        if double:
            self._wide = {name: value.astype(np.float64) for name, value in memory_of(graph.weights).items()}
        self._reads_inputs = False  # whether a shape rule needs the value of an input
        self._nodes = needed_for(graph.nodes, self._outputs)
        self._plans: PlanCache[Plan] = PlanCache(PLANS)
        self._lock = threading.Lock()

    def run(
        self, inputs: Any, threads: int | None = None, precision: str = "fast", batch_size: int | None = None
    ) -> Any:
        """See Model.run."""
        if precision not in PRECISIONS:
            known = " or ".join(repr(name) for name in PRECISIONS)
            raise ValueRangeError(explain("run", f"precision is {known}", repr(precision)))
        feeds = self._feeds(inputs)
        with self._lock:
            if self._wide:
                for name, value in memory_of(self._weights).items():
                    self._wide[name][...] = value
            if batch_size is None:
                results = self._computed(feeds, threads, precision)
            else:
                results = self._computed_in_batches(feeds, threads, precision, batch_size)
        return results[self._outputs[0]] if len(results) == 1 else results

    def _computed(self, feeds: Mapping[str, np.ndarray], threads: int | None, precision: str) -> dict[str, np.ndarray]:
        plan = self._plan(feeds, threads, precision)
        plan.run()
        return {name: self._result(name, plan.outputs[name]) for name in self._outputs}

    def _computed_in_batches(
        self, feeds: Mapping[str, np.ndarray], threads: int | None, precision: str, batch_size: int
    ) -> dict[str, np.ndarray]:
        """The outputs, `batch_size` examples at a time.

        Raises:
            ValueRangeError: inputs without an axis of examples, or outputs that depend on the other examples of a
                batch.
        """
        whole("run", "batch_size", batch_size, least=1)
        counts = {value.shape[0] if value.ndim else 0 for value in feeds.values()}
        count = counts.pop() if len(counts) == 1 else 0
        if not count or any(spec.dims and isinstance(spec.dims[0], int) for spec in self._specs.values()):
            found = "a fixed first axis" if count else "inputs without one"
            raise ValueRangeError(explain("run", "batch_size needs inputs with an open axis of examples", found))
        if batch_size >= count:
            return self._computed(feeds, threads, precision)
        self._check_separate({name: value[:batch_size] for name, value in feeds.items()})
        parts = [
            self._computed({name: value[i : i + batch_size] for name, value in feeds.items()}, threads, precision)
            for i in range(0, count, batch_size)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def _check_separate(self, feeds: Mapping[str, np.ndarray]) -> None:
        """
        Raises:
            ValueRangeError: an output of an example depends on the others, or has no axis of examples.
        """
        specs = {name: Spec(value.shape, self._specs[name].dtype) for name, value in feeds.items()}
        parts = split(
            self._nodes, specs, self._outputs, self._weights, self._constants, (), lambda name: "frozen", self._limits
        )
        if parts.obstacle:
            fix = "Run all examples at once: leave batch_size out."
            rule = "with batch_size an example's output does not depend on the other examples"
            raise ValueRangeError(explain("run", rule, parts.obstacle, fix))

    def _result(self, name: str, value: np.ndarray) -> np.ndarray:
        """A new array of what a plan computed, in the dtype that the model declares."""
        declared = self._results[name]
        rounds = declared is not None and is_real(declared) and is_real(value.dtype)
        with np.errstate(over="ignore"):  # beyond float16's largest is infinity
            return value.astype(declared if rounds else value.dtype)

    def _plan(self, feeds: Mapping[str, np.ndarray], threads: int | None, precision: str) -> Plan:
        """A plan for these inputs, which it holds."""
        threads = threads or get_num_threads()
        key = (tuple((name, value.shape) for name, value in feeds.items()), threads, precision)
        return self._plans.find(key, lambda: self._made(feeds, threads, precision), lambda plan: plan.feed(feeds))

    def _made(self, feeds: Mapping[str, np.ndarray], threads: int, precision: str) -> Plan:
        """A new plan.

        Some models take sizes or axes as inputs, scalars or short rows. A plan cannot be made without them, so if one
        is asked for, it is made for these inputs' values, and made anew when such a value changes.
        """
        make = partial(
            inference_plan,
            self._nodes,
            {name: Spec(value.shape, self._specs[name].dtype) for name, value in feeds.items()},
            self._outputs,
            self._weights if self._wide is None else self._wide,
            self._constants,
            dtype=self._dtype,
            threads=threads,
            limits=self._limits,
            precision=precision,
        )
        if not self._reads_inputs:
            try:
                return make()
            except UnsupportedOpError:
                self._reads_inputs = True
        # Vectors and scalars only: sizes and axes. The values of feature maps stay unknown to shape rules.
        values = {name: x for name, x in feeds.items() if x.ndim <= 1 and x.size <= LARGEST_LIVE}
        return make(input_values=values)

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
            refuse_bytes(place, value, dtype)
            if value.dtype != dtype:
                raise DTypeError(explain(place, f"is {dtype}", f"{value.dtype}", f"Convert it: x.astype(np.{dtype})."))
            wanted = dims if dims is not None else value.shape
            fits = len(wanted) == value.ndim and all(
                not isinstance(n, int) or n == m for n, m in zip(wanted, value.shape)
            )
            if not fits:
                shown = ", ".join("any" if n is None else str(n) for n in wanted)
                rest = len(wanted) == value.ndim and all(n in (None, m) for n, m in zip(wanted[1:], value.shape[1:]))
                fix = FIXED_BATCH if rest else ""
                raise ShapeError(explain(place, f"has shape ({shown})", f"shape {value.shape}", fix))
            for n, m in zip(wanted, value.shape):
                if isinstance(n, str) and sizes.setdefault(n, (name, m))[1] != m:
                    first, size = sizes[n]
                    raise ShapeError(explain(place, f"axis {n!r} has the size {size} that it has in {first!r}", str(m)))
        return feeds
