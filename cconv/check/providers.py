"""onnxruntime's execution providers: which there are, and a session that runs on one of them or not at all.

onnxruntime falls back in three silent ways: a provider that cannot start is left out of the session, a node
that it cannot run goes to the CPU, and a run that fails is repeated on the CPU. A check must not be taken in
by any of them, so each is switched off or looked for here.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from cconv.errors import CconvError, ValueRangeError, explain

CPU = "CPUExecutionProvider"
SUFFIX = "ExecutionProvider"

# Providers that "all" leaves out: Azure calls a service on the network and runs no node of its own.
NOT_LOCAL = ("AzureExecutionProvider",)

# TF32 would round the factors of every product to 10 bits; a proof about float32 needs float32.
OPTIONS: dict[str, dict[str, str]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}

Provider = tuple[str, dict[str, str]]


class NotAvailable(CconvError):
    """A provider that cannot be tried here."""


class Refused(CconvError):
    """A provider that is here and does not run the model, or not all of it."""


def requested(providers: str | Sequence[str | Provider] | None) -> list[Provider]:
    """The providers asked for, with their options.

    Args:
        providers: None for the CPU; "all" for every one that runs on this machine, as far as this build of
            onnxruntime knows; names in full or without "ExecutionProvider", in any case; (name, options).

    Raises:
        ValueRangeError: a name that onnxruntime does not know, or none at all.
    """
    import onnxruntime

    if providers is None:
        return [(CPU, {})]
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
            raise ValueRangeError(
                explain("providers", f"are 'all' or some of {', '.join(by_short_name)}", repr(name))
            )
        result.append((full, OPTIONS.get(full, {}) if options is None else options))
    if not result:
        raise ValueRangeError(explain("providers", "names at least one", "none"))
    return result


def run(
    model: bytes | str, provider: Provider, feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The model's outputs by name, all of it run by `provider`.

    Args:
        model: a serialized model, or the path of a file.

    Raises:
        NotAvailable: the provider is not in this build of onnxruntime, or does not start on this machine.
        Refused: it does not take the model, or would leave nodes to the CPU, or fails while it runs.
    """
    import onnxruntime

    name, options = provider
    if name not in onnxruntime.get_available_providers():
        raise NotAvailable(f"this build of onnxruntime ({onnxruntime.__version__}) does not have it")
    try:
        session = _session(model, name, options, strict=False)
        if name not in session.get_providers():
            raise NotAvailable("onnxruntime has it, but it does not start on this machine")
        if name != CPU:
            session = _session(model, name, options, strict=True)
        values = session.run(None, feeds)
    except CconvError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class of their own
        raise Refused(_first_line(error)) from error
    if session.get_providers()[0] != name:
        raise Refused(f"it ran on {session.get_providers()[0]} instead")
    return {output.name: value for output, value in zip(session.get_outputs(), values)}


def _session(model: bytes | str, name: str, options: dict[str, str], strict: bool) -> Any:
    """A session on one provider; strict: no node may be left to the CPU."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what matters comes as an exception
    if strict:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return onnxruntime.InferenceSession(model, settings, providers=[(name, options)], enable_fallback=0)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
