"""The process of one side: sets up one network in one engine and takes steps when told to.

It reads from stdin and answers on stdout, one line of JSON each; what engines print goes to stderr:

    a Job                           -> {"version": V}
    {"do": "check", "path": FILE}   -> {}                   the numbers of the first steps, written to FILE
    {"do": "run", "steps": N}       -> {"seconds": [...]}   of each step

It ends when stdin does, or with the process that started it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from typing import Any, Protocol, TextIO

import numpy as np

from benchmark.sides import Job

CHECKED = 3  # training steps whose losses are compared


class Steps(Protocol):
    """A network in an engine, ready to run."""

    def __init__(self, job: Job) -> None: ...

    def step(self) -> Any:
        """One step on the one batch there is: a loss, or the outputs."""

    def gradients(self) -> dict[str, np.ndarray]:
        """By weight, a sample of SGD's momentum: after one step, of the gradient."""

    def stay(self) -> None:
        """From now on steps leave the weights as they are."""

    @staticmethod
    def version() -> str: ...


def checked(steps: Steps, mode: str) -> dict[str, np.ndarray]:
    """What two sides must agree on: outputs, or the first losses and the first step's gradients."""
    if mode == "infer":
        return {"outputs": steps.step()}
    loss = np.array(steps.step())
    gradients = steps.gradients()
    later = np.array([steps.step() for _ in range(CHECKED - 1)])
    return {"loss": loss, "later losses": later, **{f"gradient of {key}": value for key, value in gradients.items()}}


def timed(steps: Steps, count: int) -> list[float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        steps.step()
        times.append(time.perf_counter() - begin)
    return times


def serve(told: TextIO, answers: TextIO) -> None:
    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    job = Job.from_json(json.loads(told.readline()))
    steps = importlib.import_module(f"benchmark.{job.side.engine}_side").Steps(job)
    answer(version=steps.version())
    for line in told:
        command = json.loads(line)
        if command["do"] == "check":
            np.savez(command["path"], **checked(steps, job.mode))
            steps.stay()
            answer()
        else:
            answer(seconds=timed(steps, command["steps"]))


def end_with_parent() -> None:
    """A stopped process does not notice that its pipe is closed; Linux can end it anyway."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


if __name__ == "__main__":
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)
