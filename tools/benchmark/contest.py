"""Two sides take the same steps in turn, each in a process of its own, after their numbers have been compared.

Folder      the network, its weights and a batch, as files that all sides read
Worker      a side's process: asked for steps, stopped (SIGSTOP) while another one's turn is
Contest     cconv against one opponent after the other: A B A B
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import networks
from benchmark.peak import Bound, seconds
from benchmark.sides import Job, Side

TOOLS = Path(__file__).parent.parent

TIMEOUT = 1800  # seconds for one answer; torch.compile may take minutes
TURN = 0.1  # seconds; steps that are shorter are taken several at a turn
TAIL = 15  # lines of a failed worker that are shown

# Outputs and losses: float32's rounding, 1e-7, through up to 53 layers, each summed in another order.
TOLERANCE = 1e-3
# Gradients: a value that rounding moves across a tie of a maximum or a Relu sends its gradient elsewhere, and
# BatchNorm divides by the spread of few values; PyTorch in float32 lies 3e-2 from PyTorch in float64 on ResNet-50
# at 64x64. A gradient that is wrong is off by 1. (That both agree to 1e-9 in float64 is for the tests to say.)
GRADIENT_TOLERANCE = 0.1
# Losses after an update, which carries that rounding on: PyTorch's own layouts differ by 3e-3 on ResNet-50.
LATER_TOLERANCE = 0.02


def say(text: str) -> None:
    """Progress, to stderr: a run takes minutes."""
    print(text, file=sys.stderr, flush=True)


class WorkerError(Exception):
    """A worker that failed, or two sides that do not agree."""


@dataclass(frozen=True)
class Task:
    """One network at one batch size in one mode ("train", "infer" or "frozen"); size None: as published."""

    net: str
    mode: str
    batch: int
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.net} {self.mode}, batch {self.batch}"


class Folder:
    """A temporary folder with what all sides read: layers.json, model.onnx, weights.npz, data.npz."""

    def __init__(self, task: Task) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.path = Path(self._folder.name)
        net = networks.NETWORKS[task.net]
        pixels = task.size or net.size
        model = networks.build(task.net, task.size)
        model.save(self.path / "model.onnx")
        np.savez(self.path / "weights.npz", **networks.state(model))
        (self.path / "layers.json").write_text(json.dumps(networks.describe(networks.network(task.net, task.size))))
        rng = np.random.default_rng(0)
        x = rng.standard_normal((task.batch, net.channels, pixels, pixels), np.float32)
        np.savez(self.path / "data.npz", x=x, y=rng.integers(0, net.classes, task.batch))

    def close(self) -> None:
        self._folder.cleanup()


class Worker:
    """A side's process, stopped unless it is being asked.

    Raises:
        WorkerError: by all methods, if the process fails or does not answer in time; with its last lines.
    """

    def __init__(self, job: Job, timeout: float = TIMEOUT) -> None:
        self.side = job.side
        self.timeout = timeout
        self._path = Path(job.folder) / f"{job.side}.npz"
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (`close` does)
        environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
        environment["PYTHONPATH"] = os.pathsep.join([str(TOOLS), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment |= job.side.environment
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "benchmark.worker"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.version = self._ask(job.to_json())["version"]
        except BaseException:
            self.close()
            raise

    def check(self) -> dict[str, np.ndarray]:
        """The numbers of the first steps; see worker.checked."""
        self._ask({"do": "check", "path": str(self._path)})
        with np.load(self._path) as arrays:
            found = dict(arrays)
        self._path.unlink()
        return found

    def seconds(self, steps: int) -> float:
        """Median time of a step over `steps` of them."""
        return statistics.median(self._ask({"do": "run", "steps": steps})["seconds"])

    def forget_peak(self) -> None:
        """Let `peak_bytes` count from now on."""
        with contextlib.suppress(OSError):  # Linux only
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int | None:
        """The most memory the process has held at once; None where the system does not tell."""
        try:
            text = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmHWM")), None)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what a dead process was still to be told
                if stream:
                    stream.close()
        self._log.close()

    def _ask(self, question: dict) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(self.timeout, give_up)
        timer.start()
        try:
            self.process.send_signal(signal.SIGCONT)
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._failure(late.is_set()))
        self._stop()
        return json.loads(line)

    def _stop(self) -> None:
        """Return when all threads stand still: those of OpenMP spin for a while after their work."""
        self.process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):  # it has ended instead; the next question will find out
            self.process.returncode = os.waitstatus_to_exitcode(status)

    def _failure(self, late: bool) -> str:
        status = self.process.wait()
        self._log.seek(0)
        tail = self._log.read().splitlines()[-TAIL:]
        reason = f"no answer in {self.timeout:g} s" if late else f"exit status {status}"
        return "\n    ".join([f"{self.side} failed ({reason}); its last lines:", *(tail or ["(none)"])])


def disagreement(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> str | None:
    """What two sides' first steps disagree about, in words; None: nothing."""
    if set(ours) != set(theirs):
        return f"one of them alone has {', '.join(sorted(set(ours) ^ set(theirs)))}"
    # A bias before a BatchNorm has no gradient but rounding: errors below 1e-3 of the largest gradient do not count.
    gradients = [rms(value) for name, value in theirs.items() if name.startswith("gradient")]
    least = 1e-3 * max(gradients, default=0.0)
    tolerances = {"gradient": GRADIENT_TOLERANCE, "later": LATER_TOLERANCE}
    for name, value in theirs.items():
        gradient = name.startswith("gradient")
        if value.shape != ours[name].shape:
            return f"{name}: shapes {ours[name].shape} and {value.shape}"
        error = rms(ours[name].astype(np.float64) - value) / max(rms(value), least if gradient else 1e-30)
        if not error <= tolerances.get(name.split()[0], TOLERANCE):  # NaN too
            return f"{name}: differ by {error:.2g} of their size"
    return None


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


@dataclass
class Score:
    """cconv and one opponent on one task; times are medians over the turns, in seconds a step.

    Attributes:
        ratio: the median over the turns of the opponent's time over cconv's beside it.
        spread: quartiles of that.
        failure: why there are no numbers; "" if there are.
    """

    task: Task
    side: Side
    ours: float = 0.0
    theirs: float = 0.0
    ratio: float = 0.0
    spread: tuple[float, float] = (0.0, 0.0)
    our_bytes: int | None = None
    their_bytes: int | None = None
    peak: float = 0.0
    version: str = ""
    failure: str = ""


def contest(
    task: Task, opponents: list[Side], threads: int, repeats: int, peak: tuple[Bound, float], timeout: float = TIMEOUT
) -> Iterator[Score]:
    """cconv against each opponent; a side that fails, or numbers that differ, give a Score that says so.

    Args:
        peak: the program that measures the FMA peak, and its FLOPs.
    """
    say(f"{task}: cconv sets up")
    folder = Folder(task)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        try:
            ours = Worker(Job(Side("cconv"), task.mode, threads, str(folder.path)), timeout)
            stack.callback(ours.close)
            our_numbers = ours.check()
        except WorkerError as error:
            yield _failed(task, Side("cconv"), error)
            return
        for side in opponents:
            say(f"{task}: {side} sets up")
            try:
                with contextlib.closing(Worker(Job(side, task.mode, threads, str(folder.path)), timeout)) as theirs:
                    found = disagreement(our_numbers, theirs.check())
                    if found:
                        raise WorkerError(f"{side} and cconv do not agree: {found}")
                    yield _turns(task, ours, theirs, repeats, peak)
            except WorkerError as error:
                yield _failed(task, side, error)
                if ours.process.poll() is not None:
                    return


def _failed(task: Task, side: Side, error: WorkerError) -> Score:
    say(f"  {error}")
    return Score(task, side, failure=str(error))


def _turns(task: Task, ours: Worker, theirs: Worker, repeats: int, peak: tuple[Bound, float]) -> Score:
    """Peak, A, B, peak, A, B, ...; before that a turn each that does not count."""
    sides = (ours, theirs)
    steps = [max(1, round(TURN / worker.seconds(1))) for worker in sides]
    for worker, count in zip(sides, steps):
        worker.seconds(count)
        worker.forget_peak()
    program, flops = peak
    times: tuple[list[float], list[float]] = ([], [])
    peaks = []
    for _ in range(repeats):
        peaks.append(seconds(program.run))
        for worker, count, list_ in zip(sides, steps, times):
            list_.append(worker.seconds(count))
    ratios = [b / a for a, b in zip(*times)]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive") if repeats > 1 else ratios * 3
    score = Score(
        task=task,
        side=theirs.side,
        ours=statistics.median(times[0]),
        theirs=statistics.median(times[1]),
        ratio=statistics.median(ratios),
        spread=(low, high),
        our_bytes=ours.peak_bytes(),
        their_bytes=theirs.peak_bytes(),
        peak=flops / statistics.median(peaks),
        version=theirs.version,
    )
    say(f"  {1e3 * score.ours:.3g} ms against {1e3 * score.theirs:.3g} ms: {score.ratio:.2f}x")
    return score
