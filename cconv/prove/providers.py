"""Execution providers of onnxruntime: select them by name, and run a model on exactly one of them.

onnxruntime falls back silently in three ways: it leaves out a provider that cannot start, gives nodes that the provider
cannot run to the CPU, and repeats a failed run on the CPU. With a fallback, a check would compare the wrong provider.
Every session made here therefore disables or detects all three, at each level of optimization.
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

# Providers that "all" leaves out. Azure calls a service on the network and runs no nodes itself.
NOT_LOCAL = ("AzureExecutionProvider",)

# Provider -> default options. OpenVINO would otherwise choose a device itself, and compute in bfloat16 on some
# processors.
OPTIONS: dict[str, dict[str, str]] = {"OpenVINOExecutionProvider": {"device_type": "CPU", "precision": "FP32"}}

# Relative tolerance for TF32, which rounds the factors of every product to 10 bits, a relative error of at most
# 2^-11 = 5e-4 each. Over tens of layers this adds up to about 1e-3 of the largest value. A wrong pad or a forgotten
# bias gives 1e-2 or more.
TF32_TOLERANCE = 1e-2

# Names for onnxruntime's levels of graph optimization, from the lowest to the highest.
LEVELS = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "full": "ORT_ENABLE_ALL",
}

Provider = tuple[str, dict[str, str]]


class NotAvailable(CconvError):
    """The provider is not part of this onnxruntime, or does not start on this machine."""


class Refused(CconvError):
    """The provider is available, but does not run the model or does not run all of its nodes."""


@dataclass(frozen=True)
class Target:
    """An execution provider with its options.

    Attributes:
        name: name of the provider in onnxruntime.
        options: provider options of onnxruntime.
        label: name in the report.
        tolerance: accepted relative error of this provider; the check uses its own tolerance if that is larger.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    tolerance: float = 0.0


def requested(providers: str | Sequence[str | Provider] | None) -> list[Target]:
    """Select execution providers by name. CUDA without options gives two targets: float32 and TF32.

    Args:
        providers: None for the CPU; "all" for every provider of this build of onnxruntime that runs on this machine;
            or a list of names or of (name, options). "ExecutionProvider" may be left out of a name, and upper and lower
            case are the same.

    Raises:
        ValueRangeError: a name is unknown to onnxruntime, or no provider is named.
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
    for provider in providers:
        name, options = (provider, None) if isinstance(provider, str) else provider
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
    if name == CUDA and str(options.get("use_tf32", "1")) != "0":  # onnxruntime uses TF32 by default
        return Target(name, options, f"{label} (TF32)", TF32_TOLERANCE)
    device = options.get("device_type")
    return Target(name, options, f"{label} ({device})" if device else label)


def levels(optimization: str | Sequence[str] | None) -> list[str]:
    """Select levels of graph optimization by name.

    Args:
        optimization: None for onnxruntime's default, "full"; "all" for each level; or one or several names of LEVELS.

    Raises:
        ValueRangeError: a name is not in LEVELS, or no level is named.
    """
    onnxruntime = runtime.onnxruntime()
    if optimization is None:
        return ["full"]
    if isinstance(optimization, str):
        # onnxruntime before 1.22 does not have the level "layout".
        have = [name for name, level in LEVELS.items() if hasattr(onnxruntime.GraphOptimizationLevel, level)]
        optimization = have if optimization == "all" else [optimization]
    if not optimization or (unknown := [name for name in optimization if name not in LEVELS]):
        found = repr(unknown[0]) if optimization else "none"
        raise ValueRangeError(explain("optimization", f"is 'all' or some of {', '.join(LEVELS)}", found))
    return list(dict.fromkeys(optimization))


class Running:
    """An onnxruntime session that runs all nodes of a model on one provider.

    Args:
        model: a serialized model, or the path of a file.
        target: the provider.
        level: level of graph optimization, a key of LEVELS.

    Raises:
        NotAvailable: the provider is not in this build of onnxruntime, or does not start on this machine.
        Refused: the provider does not accept the model, or would leave nodes to the CPU.
    """

    def __init__(self, model: bytes | str, target: Target, level: str = "full") -> None:
        onnxruntime = runtime.onnxruntime()
        self._target = target
        if target.name not in onnxruntime.get_available_providers():
            raise NotAvailable(f"this build of onnxruntime ({onnxruntime.__version__}) does not include this provider")
        try:
            self._session = _session(model, target, level, strict=target.name != CPU)
        except Exception as error:  # onnxruntime's exceptions have no common base class
            if not _starts(model, target, level):
                raise _not_here() from error
            raise Refused(_first_line(error)) from error
        if target.name not in self._session.get_providers():
            raise _not_here()

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the model. Return output name -> array.

        Raises:
            Refused: the run fails, or another provider ran the model.
        """
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:
            raise Refused(_first_line(error)) from error
        ran_on = self._session.get_providers()[0]
        if ran_on != self._target.name:
            raise Refused(f"the model ran on {ran_on} instead")
        return {output.name: value for output, value in zip(self._session.get_outputs(), values)}


def _not_here() -> NotAvailable:
    return NotAvailable("onnxruntime includes this provider, but it does not start on this machine")


def _starts(model: bytes | str, target: Target, level: str) -> bool:
    """Whether a provider starts: whether it is part of a session that may leave nodes to the CPU.

    True if even this session fails, because the failure then comes from the model.
    """
    try:
        return target.name in _session(model, target, level, strict=False).get_providers()
    except Exception:
        return True


def _session(model: bytes | str, target: Target, level: str, strict: bool) -> Any:
    """Make a session on one provider. If `strict`, onnxruntime raises instead of leaving nodes to the CPU."""
    onnxruntime = runtime.onnxruntime()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # fatal messages only: failures raise an exception anyway
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
