"""onnxruntime's execution providers: which there are, and a session that runs on one of them or not at all.

onnxruntime falls back in three silent ways: a provider that cannot start is left out of the session, a node
that it cannot run goes to the CPU, and a run that fails is repeated on the CPU. A check must not be taken in
by any of them, at any level of optimization, so each is switched off or looked for in every session made here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cconv.errors import CconvError, ValueRangeError, explain
from cconv.prove import runtime

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
SUFFIX = "ExecutionProvider"

# Providers that "all" leaves out: Azure calls a service on the network and runs no node of its own.
NOT_LOCAL = ("AzureExecutionProvider",)

# OpenVINO picks a device by itself, and on some processors computes in bfloat16 unless it is told not to.
OPTIONS: dict[str, dict[str, str]] = {"OpenVINOExecutionProvider": {"device_type": "CPU", "precision": "FP32"}}

# TF32 rounds the factors of every product to 10 bits, by at most 2^-11 = 5e-4 each. Over tens of layers that makes
# some 1e-3 of the largest value; a wrong pad or a forgotten bias make 1e-2 and more.
TF32_TOLERANCE = 1e-2

# onnxruntime's levels of graph optimization by the names that they have here, least first.
LEVELS = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "full": "ORT_ENABLE_ALL",
}

Provider = tuple[str, dict[str, str]]


class NotAvailable(CconvError):
    """A provider that cannot be tried here."""


class Refused(CconvError):
    """A provider that is here and does not run the model, or not all of it."""


@dataclass(frozen=True)
class Target:
    """A provider as it is to be run.

    Attributes:
        name: onnxruntime's.
        options: onnxruntime's, for this provider.
        label: what the report calls it.
        tolerance: relative error below which nothing is said about it; the check's own where that is larger.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    tolerance: float = 0.0


def requested(providers: str | Sequence[str | Provider] | None) -> list[Target]:
    """The providers asked for. CUDA comes twice unless options are given: in float32, and with TF32.

    Args:
        providers: None for the CPU; "all" for every one that runs on this machine, as far as this build of
            onnxruntime knows; names in full or without "ExecutionProvider", in any case; (name, options).

    Raises:
        ValueRangeError: a name that onnxruntime does not know, or none at all.
    """
    onnxruntime = runtime.onnxruntime()
    if providers is None:
        return [_target(CPU, {})]
    available = onnxruntime.get_available_providers()
    if isinstance(providers, str):
        providers = [n for n in available if n not in NOT_LOCAL] if providers == "all" else [providers]
    known = list(dict.fromkeys([*available, *onnxruntime.get_all_providers()]))
    by_short_name = {name.removesuffix(SUFFIX).lower(): name for name in known}
    result = []
    for wish in providers:
        name, options = (wish, None) if isinstance(wish, str) else wish
        full = by_short_name.get(name.removesuffix(SUFFIX).lower())
        if full is None:
            raise ValueRangeError(explain("providers", f"are 'all' or some of {', '.join(by_short_name)}", repr(name)))
        if options is None and full == CUDA:
            result += [_target(full, {"use_tf32": use}) for use in "01"]
        else:
            result.append(_target(full, OPTIONS.get(full, {}) if options is None else options))
    if not result:
        raise ValueRangeError(explain("providers", "names at least one", "none"))
    return result


def _target(name: str, options: Mapping[str, str]) -> Target:
    label = name.removesuffix(SUFFIX)
    if name == CUDA and str(options.get("use_tf32", "1")) != "0":  # onnxruntime's own default is to use it
        return Target(name, options, f"{label} (TF32)", TF32_TOLERANCE)
    device = options.get("device_type")
    return Target(name, options, f"{label} ({device})" if device else label)


def levels(optimization: str | Sequence[str] | None) -> list[str]:
    """The levels of optimization asked for: None for onnxruntime's default, "all", a name or several.

    Raises:
        ValueRangeError: a name that is not in LEVELS, or none at all.
    """
    onnxruntime = runtime.onnxruntime()
    if optimization is None:
        return ["full"]
    if isinstance(optimization, str):
        # Releases before 1.22 have no level "layout".
        have = [name for name, level in LEVELS.items() if hasattr(onnxruntime.GraphOptimizationLevel, level)]
        optimization = have if optimization == "all" else [optimization]
    if not optimization or (unknown := [name for name in optimization if name not in LEVELS]):
        found = repr(unknown[0]) if optimization else "none"
        raise ValueRangeError(explain("optimization", f"is 'all' or some of {', '.join(LEVELS)}", found))
    return list(dict.fromkeys(optimization))


class Running:
    """A session that runs a model on one provider, all of it.

    Args:
        model: a serialized model, or the path of a file.
        level: of LEVELS.

    Raises:
        NotAvailable: the provider is not in this build of onnxruntime, or does not start on this machine.
        Refused: it does not take the model, or would leave nodes to the CPU.
    """

    def __init__(self, model: bytes | str, target: Target, level: str = "full") -> None:
        onnxruntime = runtime.onnxruntime()
        self._target = target
        if target.name not in onnxruntime.get_available_providers():
            raise NotAvailable(f"this build of onnxruntime ({onnxruntime.__version__}) does not have it")
        try:
            self._session = _session(model, target, level, strict=target.name != CPU)
        except Exception as error:  # onnxruntime's errors share no base class of their own
            if not _starts(model, target, level):
                raise _not_here() from error
            raise Refused(_first_line(error)) from error
        if target.name not in self._session.get_providers():
            raise _not_here()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs by name.

        Raises:
            Refused: it fails while it runs.
        """
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:
            raise Refused(_first_line(error)) from error
        ran_on = self._session.get_providers()[0]
        if ran_on != self._target.name:
            raise Refused(f"it ran on {ran_on} instead")
        return {output.name: value for output, value in zip(self._session.get_outputs(), values)}


def _not_here() -> NotAvailable:
    return NotAvailable("onnxruntime has it, but it does not start on this machine")


def _starts(model: bytes | str, target: Target, level: str) -> bool:
    """Whether a provider is part of a session in which the CPU may help; True where there is no such session."""
    try:
        return target.name in _session(model, target, level, strict=False).get_providers()
    except Exception:
        return True


def _session(model: bytes | str, target: Target, level: str, strict: bool) -> Any:
    """A session on one provider; strict: no node may be left to the CPU."""
    onnxruntime = runtime.onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what matters comes as an exception
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    if strict:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = [(target.name, dict(target.options))]
        return onnxruntime.InferenceSession(model, settings, providers=wanted, enable_fallback=0)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
