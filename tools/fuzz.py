"""Fuzz cconv: load randomly changed models (mutants) and, if they load, run them and sometimes train them.

    python tools/fuzz.py --count 20000 --seed 1 --workers 2
    python tools/fuzz.py --seed 1 --only 4711                  repeat one mutant, with its traceback
    python tools/fuzz.py --count 20000 --keep-going            collect all findings, each place in the code once

The original is one of about 150 small models: one for each test case of an operator, networks of cconv.nn, and models
with functions, subgraphs and external data; sometimes one of onnx's light models. A mutant has one to six changes: a
field of any protobuf message is set to an unusual value, an entry is deleted, duplicated, swapped or copied from
elsewhere, or bytes are flipped. Mutant i of a seed is always the same.

Mutants run in worker processes with a limit on memory and on processor time for each mutant. A mutant passes if cconv
raises a CconvError or if the model runs. Anything else is a finding: another exception, a crash, a hang, memory beyond
the limit, or (checked for two mutants of three) a write outside the buffers of a plan. The mutant is then written to
--out, and the run stops unless --keep-going is given. A worker that dies is replaced. The exit status is 1 if there was
a finding, else 0.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

SECONDS = 10  # processor time limit of a mutant; normally a mutant takes a hundredth of it
PATIENCE = 120  # seconds without output after which a worker counts as hanging
MEMORY = 1 << 30  # memory limit of a worker in bytes, in addition to the memory that it has after the imports
CHUNK = 200  # mutants that a worker gets at a time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="number of mutants (10000)")
    parser.add_argument("--first", type=int, default=0, metavar="I", help="index of the first mutant (0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--only", type=int, metavar="I", help="run this one mutant, in this process")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--minutes", type=float, metavar="X", help="stop after this time")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), metavar="DIR")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first finding")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts of the outcomes to this file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.seed)
    if options.only is not None:
        return one(options)
    return lead(options)


# The leading process, which distributes the mutants to workers.


class Worker:
    """A worker process. It reads ranges of mutants and prints the outcome of each, one JSON object a line.

    Attributes:
        current, end: the mutant that it is running, and the end of its range; -1 if it has none.
        heard: time of its last output.
    """

    def __init__(self, seed: int) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--worker", "--seed", str(seed)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.current = -1
        self.end = -1
        self.heard = time.monotonic()
        self._rest = b""

    def give(self, begin: int, end: int) -> None:
        """Let the worker run the mutants begin..end-1."""
        assert self.process.stdin is not None
        self.current, self.end, self.heard = begin, end, time.monotonic()
        self.process.stdin.write(f"{begin} {end}\n".encode())
        self.process.stdin.flush()

    def lines(self) -> list[dict[str, Any]]:
        """The outcomes printed since the last call. Does not block; returns [] if there is no output."""
        assert self.process.stdout is not None
        data = self.process.stdout.read()
        if data:
            self.heard = time.monotonic()
        *whole, self._rest = (self._rest + (data or b"")).split(b"\n")
        return [json.loads(line) for line in whole]


def lead(options: argparse.Namespace) -> int:
    """Distribute the mutants to workers, collect and print the outcomes; returns the exit status."""
    from tqdm import tqdm

    outcomes: collections.Counter[str] = collections.Counter()
    findings: dict[str, int] = {}
    stop_at = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    begin, last = options.first, options.first + options.count
    left = [(i, min(i + CHUNK, last)) for i in range(begin, last, CHUNK)][::-1]
    workers = [Worker(options.seed) for _ in range(options.workers)]
    stopped = False

    def found(i: int, kind: str, text: str) -> None:
        outcomes[f"FINDING: {kind}"] += 1
        if kind not in findings:
            findings[kind] = i
            options.out.mkdir(parents=True, exist_ok=True)
            stem = options.out / f"seed{options.seed}-{i}"
            stem.with_suffix(".onnx").write_bytes(Mutants(options.seed).make(i)[0])
            again = f"python tools/fuzz.py --seed {options.seed} --only {i}"
            stem.with_suffix(".txt").write_text(f"{again}\n\n{kind}\n\n{text}\n")
            bar.write(f"mutant {i}: {kind}\n  {again}", file=sys.stderr)

    with tqdm(total=options.count, unit="mutant", smoothing=0.05) as bar:
        while not stopped:
            busy = [worker for worker in workers if worker.end >= 0]
            for k, worker in enumerate(workers):
                if worker.end < 0 and left and time.monotonic() < stop_at:
                    worker.give(*left.pop())
                    busy.append(worker)
                    workers[k] = worker
            if not busy:
                break
            outputs = [worker.process.stdout for worker in busy if worker.process.stdout]
            select.select(outputs, [], [], 1.0)
            for worker in busy:
                if stopped:
                    break
                # Checked before the output is read, so that no output of a process that has ended is missed.
                over = worker.process.poll() is not None
                for line in worker.lines():
                    if "finding" in line:
                        found(line["i"], line["finding"], line["text"])
                        stopped |= not options.keep_going
                    else:
                        outcomes[line["outcome"]] += 1
                    worker.current = line["i"] + 1
                    bar.update()
                    if worker.current == worker.end:
                        worker.end = -1
                    if stopped:
                        break
                if worker.end < 0 or stopped:
                    continue
                silent = time.monotonic() - worker.heard > PATIENCE
                if silent:
                    worker.process.kill()
                if silent or over:
                    code = worker.process.wait()
                    kind = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
                    if silent or code == -signal.SIGPROF:
                        kind = "hang"
                    found(
                        worker.current,
                        kind,
                        "the worker process ended; repeat the mutant with the command above to see more",
                    )
                    stopped |= not options.keep_going
                    bar.update()
                    if worker.current + 1 < worker.end:
                        left.append((worker.current + 1, worker.end))
                    workers[workers.index(worker)] = Worker(options.seed)
    for worker in workers:
        worker.process.kill()

    done = sum(outcomes.values())
    print(f"seed {options.seed}, mutants {begin} to {begin + done - 1}, {done} in all:")
    for name, count in outcomes.most_common():
        print(f"  {count:8d}  {name}")
    for kind, i in findings.items():
        print(f"first of {kind!r}: --seed {options.seed} --only {i}")
    if options.json:
        options.json.write_text(json.dumps(outcomes))
    return 1 if findings else 0


# The worker process.


def work(seed: int) -> int:
    """Run the ranges of mutants that stdin names, and print the outcome of each."""
    mutants = Mutants(seed)
    trial = Trial()
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        trial.prepare(Path(folder))
        for line in sys.stdin:
            begin, end = map(int, line.split())
            for i in range(begin, end):
                signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process even inside C code
                result: dict[str, Any] = {"i": i}
                try:
                    data, heavy = mutants.make(i)
                    result["outcome"] = trial.run(data, heavy, i)
                except BaseException as error:
                    result["finding"], result["text"] = described(error)
                signal.setitimer(signal.ITIMER_PROF, 0)
                print(json.dumps(result), flush=True)
    return 0


def one(options: argparse.Namespace) -> int:
    """Run the mutant --only in this process, with its traceback; returns the exit status."""
    data, heavy = Mutants(options.seed).make(options.only)
    print(f"mutant {options.only} of seed {options.seed}: {len(data)} bytes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial()
        trial.prepare(Path(folder))
        try:
            print(trial.run(data, heavy, options.only, say=True))
        except Exception:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / f"seed{options.seed}-{options.only}.onnx").write_bytes(data)
            traceback.print_exc()
            return 1
    return 0


def described(error: BaseException) -> tuple[str, str]:
    """The exception's class with the line in cconv that raised it, and the traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f"{os.sep}cconv{os.sep}" in f.filename] or list(frames)
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    text = "".join(traceback.format_exception(error))
    return f"{type(error).__name__} at {where}", text[-8000:]


class Watch:
    """Detects writes outside the buffers of a plan, with guards between them (guards.py).

    While `on` is set, plans are laid out with guards. The guards of the latest plan are checked after its first run.
    """

    def __init__(self) -> None:
        from guards import Guards

        from cconv.plan import plan_builder
        from cconv.plan.plan import Plan

        self.on = False
        self.laid: Guards | None = None  # guards of the latest plan, until it has run
        place, run = plan_builder.place, Plan.run

        def watched_place(lifetimes: Any) -> tuple[list[int], int]:
            if not self.on:
                return place(lifetimes)
            self.laid = Guards()
            return self.laid.place(lifetimes)

        def watched_run(plan: Any, until: str | None = None) -> tuple[str, int]:
            guards, self.laid = self.laid, None
            if guards is None:
                return run(plan, until)
            guards.fill(plan)
            result = run(plan, until)
            if guards.written(plan):
                raise AssertionError("a write outside the buffers of a plan")
            return result

        plan_builder.place, Plan.run = watched_place, watched_run  # type: ignore[method-assign]


class Trial:
    """Loads, runs and trains mutants."""

    def prepare(self, folder: Path) -> None:
        """Import cconv and write the file of external data to `folder`. Must be called before `run`."""
        import numpy as np

        import cconv

        self.watch = Watch()
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        self.cconv, self.np, self.folder = cconv, np, folder
        self.limits = cconv.Limits(
            file_bytes=1 << 22,
            external_bytes=1 << 20,
            nodes=2000,
            tensor_elements=1 << 20,
            output_elements=1 << 20,
            arena_bytes=1 << 26,
        )
        (folder / "w.bin").write_bytes(bytes(range(256)) * 4)

    def run(self, data: bytes, heavy: bool, i: int, say: bool = False) -> str:
        """Load the mutant `data`; if it loads, run it and sometimes summarize, diagnose or train it.

        Args:
            heavy: whether the mutant comes from a large model, which is only loaded and summarized.
            i: number of the mutant; it decides which of the stages are run.
            say: print the message of a CconvError.

        Returns:
            The outcome. Exceptions other than CconvError propagate.
        """
        stage = "loaded"
        self.watch.on, self.watch.laid = i % 3 > 0, None
        try:
            model = self.cconv.load(data, limits=self.limits, base=self.folder)
            stage = "serialized again"
            model.proto().SerializeToString()
            stage = "summarized"
            if i % 4 == 0 or heavy:
                repr(model)
                model.summary()
            if heavy:
                return "loaded and summarized (large)"
            stage = "diagnosed"
            if i % 16 == 4:
                str(self.cconv.doctor(model))
            stage = "run"
            feeds = self.feeds(model, i)
            if feeds is None:
                return "loaded, not run: inputs not numeric or too large"
            model.run(feeds, threads=1)
            if i % 8:
                return "ran"
            stage = "trained"
            self.gradients(model, feeds)
            return "ran and trained"
        except self.cconv.CconvError as error:
            if say:
                print(f"{type(error).__name__}: {error}")
            return f"not {stage}: {type(error).__name__}"

    def feeds(self, model: Any, i: int) -> dict[str, Any] | None:
        """Random inputs by name. None if the inputs are not numeric or are too large."""
        np = self.np
        rng = np.random.default_rng(i)
        feeds, total = {}, 0
        for name, spec in model.input_specs.items():
            dims = spec.dims if spec.dims is not None else (2, 3)
            shape = tuple(n if isinstance(n, int) else 2 for n in dims)
            size = 1
            for n in shape:
                size *= n
            total += size
            if total > 1 << 16 or max(shape, default=0) > 1 << 16 or spec.dtype.kind not in "fiub":
                return None
            values = rng.standard_normal(shape) * 2
            if spec.dtype.kind in "iub":
                values = np.abs(values)
            feeds[name] = values.astype(spec.dtype)
        return feeds

    def gradients(self, model: Any, feeds: dict[str, Any]) -> None:
        """One backward pass, from the first float32 output if there is one."""
        results = model.run(feeds, threads=1)
        if not isinstance(results, dict):
            results = {model.output_names[0]: results}
        name = next((name for name, value in results.items() if value.dtype == self.np.float32), None)
        if name is not None:
            trainer = self.cconv.Trainer(model, loss={name: "mse"}, threads=1)
            trainer.gradients(feeds, {name: self.np.nan_to_num(results[name]) + 1})


# The changes.

NUMBERS = [
    0, 1, -1, 2, 3, 4, 5, 7, 8, 16, -2, 63, 64, 65, 127, 128, 255, 256, 1000, 65535, 65536, 10**6, 2**24, 2**31 - 1,
    2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**32), -(2**63), -(2**63) + 1,
]  # fmt: skip
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, 1e30, 1e38, float("inf"), float("-inf"), float("nan"), 3.0, 1e-8]
TEXTS = ["", "x", "y", "x0", "y0", "\0", "../w.bin", "/etc/passwd", "w.bin", "ai.onnx", "other", "a" * 300, "é", "1e3"]
MODES = [b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"linear", b"cubic", b"reflect", b"\xff"]


class Mutants:
    """The mutants of a seed."""

    def __init__(self, seed: int) -> None:
        sys.path.insert(0, str(ROOT / "tests"))
        from cconv.ops.catalogue import CATALOGUE

        self.seed = seed
        self.small = [*operator_models(), *network_models(), *odd_models()]
        self.large = light_models()
        self.operators = sorted({name for _, name in CATALOGUE})

    def make(self, i: int) -> tuple[bytes, bool]:
        """The bytes of mutant i, and whether it comes from a large model."""
        import random

        import onnx

        rng = random.Random(f"{self.seed}:{i}")
        heavy = bool(self.large) and rng.random() < 0.002
        data = rng.choice(self.large if heavy else self.small)
        if rng.random() < 0.85:
            proto = onnx.ModelProto.FromString(data)
            for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4, 6])):
                try:
                    self.change(proto, rng)
                except (TypeError, ValueError, IndexError):  # the field does not accept the value
                    continue
            data = proto.SerializeToString()
        if rng.random() < 0.2:
            flipped = bytearray(data)
            for _ in range(rng.choice([1, 1, 2, 3, 8])):
                where = rng.randrange(len(flipped) or 1)
                what = rng.random()
                if not flipped:
                    break
                if what < 0.6:
                    flipped[where] ^= 1 << rng.randrange(8)
                elif what < 0.8:
                    flipped[where] = rng.randrange(256)
                elif what < 0.9:
                    del flipped[where : where + rng.choice([1, 2, 4, 100])]
                else:
                    flipped[where:where] = rng.randbytes(rng.choice([1, 2, 4]))
            data = bytes(flipped)
        return data, heavy

    def change(self, proto: Any, rng: Any) -> None:
        """Make one random change. Half of the changes are in the message types that matter most."""
        messages = list(walk(proto))
        kind = rng.random()
        if kind < 0.5:
            wanted = rng.choice(["NodeProto", "AttributeProto", "TensorProto", "Dimension", "OperatorSetIdProto"])
            messages = [m for m in messages if m.DESCRIPTOR.name == wanted] or messages
        message = rng.choice(messages)
        if kind < 0.4:
            self.aim(proto, message, rng)
        else:
            self.any_field(proto, message, rng)

    def aim(self, proto: Any, message: Any, rng: Any) -> None:
        """Make a change after which the model may still be valid."""
        name = message.DESCRIPTOR.name
        if name == "NodeProto":
            values = [v.name for v in (*proto.graph.input, *proto.graph.initializer)]
            values += [v for node in proto.graph.node for v in node.output] + [""]
            what = rng.randrange(6)
            if what == 0:
                message.op_type = rng.choice(self.operators)
            elif what == 1 and message.input:
                message.input[rng.randrange(len(message.input))] = rng.choice(values)
            elif what == 2:
                message.input.append(rng.choice(values))
            elif what == 3 and message.input:
                del message.input[rng.randrange(len(message.input))]
            elif what == 4:
                message.output.append(f"more{rng.randrange(9)}")
            elif message.attribute:
                del message.attribute[rng.randrange(len(message.attribute))]
        elif name == "AttributeProto":
            if message.ints and rng.random() < 0.7:
                message.ints[rng.randrange(len(message.ints))] = rng.choice(NUMBERS)
            elif message.ints:
                message.ints.append(rng.choice(NUMBERS)) if rng.random() < 0.5 else message.ints.pop()
            elif message.type == message.INT:
                message.i = rng.choice(NUMBERS)
            elif message.type == message.FLOAT:
                message.f = rng.choice(FLOATS)
            elif message.type == message.STRING:
                message.s = rng.choice(MODES)
            else:
                message.type = rng.randrange(15)
        elif name == "TensorProto":
            what = rng.randrange(5)
            if what == 0 and message.dims:
                message.dims[rng.randrange(len(message.dims))] = rng.choice(NUMBERS)
            elif what == 1:  # another shape with the same number of elements
                count = 1
                for n in message.dims:
                    count *= n
                shape = rng.choice([[count], [1, count], [count, 1], [1, 1, count], [1] * 5 + [count], [0, count]])
                message.dims[:] = shape
            elif what == 2 and message.raw_data:  # other values, same shape
                width = rng.choice([4, 8])
                words = [rng.choice(NUMBERS) % 2 ** (8 * width) for _ in range(len(message.raw_data) // width)]
                message.raw_data = b"".join(w.to_bytes(width, "little") for w in words)
            elif what == 3:
                message.ClearField("raw_data")
                message.data_location = message.EXTERNAL
                for key in rng.sample(["location", "offset", "length", "checksum"], rng.randrange(1, 4)):
                    value = rng.choice([*TEXTS, *map(str, NUMBERS), "w.bin", "w.bin"])
                    message.external_data.add(key=key, value=value)
            else:
                message.data_type = rng.randrange(30)
        elif name == "Dimension":
            if rng.random() < 0.5:
                message.dim_value = rng.choice(NUMBERS)
            else:
                message.dim_param = rng.choice(["N", "M", "", "x"])
        elif name == "OperatorSetIdProto":
            message.version = rng.choice([*range(1, 30), *NUMBERS])
        else:
            self.any_field(proto, message, rng)

    def any_field(self, proto: Any, message: Any, rng: Any) -> None:
        """Set a random field of the message to a random value that it can hold."""
        descriptor = message.DESCRIPTOR
        present = [field for field, _ in message.ListFields()]
        field = rng.choice(present if present and rng.random() < 0.7 else list(descriptor.fields))
        if not field.is_repeated:
            if field.type == field.TYPE_MESSAGE:
                donors = [m for m in walk(proto) if m.DESCRIPTOR is field.message_type]
                if not donors or rng.random() < 0.4:
                    message.ClearField(field.name)
                else:
                    copy = type(donors[0]).FromString(rng.choice(donors).SerializeToString())
                    getattr(message, field.name).CopyFrom(copy)
            elif rng.random() < 0.2:
                message.ClearField(field.name)
            else:
                setattr(message, field.name, self.scalar(proto, field, getattr(message, field.name), rng))
            return
        entries = getattr(message, field.name)
        what = rng.random()
        if what < 0.25 and len(entries):
            del entries[rng.randrange(len(entries))]
        elif what < 0.45 and len(entries) > 1:
            a, b = rng.sample(range(len(entries)), 2)
            if field.type == field.TYPE_MESSAGE:
                first, second = (type(entries[k]).FromString(entries[k].SerializeToString()) for k in (a, b))
                entries[a].CopyFrom(second)
                entries[b].CopyFrom(first)
            else:
                entries[a], entries[b] = entries[b], entries[a]
        elif field.type == field.TYPE_MESSAGE:
            donors = [m for m in walk(proto) if m.DESCRIPTOR is field.message_type]
            entry = rng.choice(donors).SerializeToString() if donors else b""
            entries.add().MergeFromString(entry)
        elif what < 0.75 and len(entries):
            k = rng.randrange(len(entries))
            entries[k] = self.scalar(proto, field, entries[k], rng)
        else:
            entries.append(self.scalar(proto, field, entries[0] if len(entries) else None, rng))

    def scalar(self, proto: Any, field: Any, old: Any, rng: Any) -> Any:
        """A random value for a scalar field whose value is `old` (None: no value)."""
        if field.type == field.TYPE_STRING:
            names = [m.name for m in walk(proto) if hasattr(m, "name")]
            return rng.choice([*names, *TEXTS])
        if field.type == field.TYPE_BYTES:
            data = bytearray(old or b"")
            what = rng.random()
            if what < 0.3:
                return bytes(data[: rng.randrange(len(data) + 1)])
            if what < 0.5:
                return bytes(data) + rng.randbytes(rng.choice([1, 4, 8, 100]))
            return rng.randbytes(len(data) or rng.choice([0, 1, 4, 8]))
        if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            return rng.choice(FLOATS)
        if field.type == field.TYPE_ENUM:
            return rng.randrange(-1, 32)
        number = rng.choice(NUMBERS) if rng.random() < 0.7 or old is None else old + rng.choice([-1, 1, 2, -2])
        return number % 2**31 if field.type == field.TYPE_INT32 else number


def walk(message: Any) -> Any:
    """Yield the message and all messages nested in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                yield from walk(part)


# The original models.


def operator_models() -> list[bytes]:
    """A model for each small test case of an operator: its inputs are graph inputs or, in every second model,
    initializers. Some models have a convolution before the operator."""
    from harness import behind_convolution, node_model
    from ops_cases import CASES

    found = []
    for k, case in enumerate(CASES):
        if sum(value.nbytes for value in case.arrays() if value is not None) > 1 << 14:
            continue
        proto = node_model(case, dynamic=k % 2 == 0)
        x = case.inputs[0] if case.inputs else None
        shape = getattr(x, "shape", x) if x is not None else ()
        if k % 3 == 0 and 3 <= len(shape) <= 5 and all(shape) and getattr(x, "dtype", "float32") == "float32":
            proto = behind_convolution(proto)
        found.append(proto.SerializeToString())
    return found


def network_models() -> list[bytes]:
    """Small networks of cconv.nn, four copies of each so that they are chosen more often."""
    from cconv import nn

    plain = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    mobile = nn.Sequential(
        nn.Residual(
            nn.Sequential(
                nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 6, 3, padding=1, groups=6),
                nn.BatchNorm2d(6), nn.ReLU6(), nn.Conv2d(6, 3, 1), nn.BatchNorm2d(3),
            )
        ),
        nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(3, 2), nn.Softmax(),
    )  # fmt: skip
    up = nn.Sequential(
        nn.Concat(nn.Conv2d(2, 2, 3, stride=2, padding=1), nn.AvgPool2d(2)), nn.ConvTranspose2d(4, 2, 2, stride=2)
    )
    winograd = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Dropout(0.5))
    models = [
        plain.build((2, 6, 6), seed=0),
        mobile.build((3, 5, 5), seed=0),
        up.build((2, 6, 6), seed=0),
        winograd.build((16, 8, 8), seed=0),
        nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), nn.MaxPool1d(2)).build((2, 9), seed=0),
        nn.Sequential(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2), nn.Sigmoid()).build((1, 3, 4, 3), seed=0),
    ]
    return [model.proto().SerializeToString() for model in models for _ in range(4)]


def odd_models() -> list[bytes]:
    """Models with functions, subgraphs, shape arithmetic and external data, four copies of each."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from graph import models

    rich = models.rich()
    stripped = models.rich()  # only the nodes that cconv can run
    del stripped.graph.node[4:]
    stripped.graph.output[0].name = "d"
    outside = models.linear()
    w = np.arange(12, dtype=np.float32).reshape(4, 3)
    outside.graph.initializer[0].CopyFrom(models.external("w.bin", w, offset=8, length=48))
    node = helper.make_node
    shapes = helper.make_graph(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Unsqueeze", ["n", "axes"], ["n1"]),
            node("Concat", ["n1", "rest"], ["to"], axis=0),
            node("Reshape", ["x", "to"], ["r"]),
            node("If", ["yes"], ["i"], then_branch=_branch("Relu", "a"), else_branch=_branch("Neg", "b")),
            node("Slice", ["i", "begin", "end"], ["y"]),
        ],
        "shapes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array(value), name)
            for name, value in {
                "zero": 0, "axes": [0], "rest": [-1], "yes": True, "begin": [0, 1], "end": [2, 9]
            }.items()
        ],
    )  # fmt: skip
    arithmetic = helper.make_model(shapes, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    protos = [rich, stripped, outside, arithmetic, models.linear(), models.relu()]
    return [proto.SerializeToString() for proto in protos for _ in range(4)]


def _branch(op_type: str, name: str) -> Any:
    import onnx
    from onnx import helper

    return helper.make_graph([helper.make_node(op_type, ["r"], [name])], op_type, [], [onnx.ValueInfoProto(name=name)])


def light_models() -> list[bytes]:
    """onnx's light models (networks whose weights are computed from a shape) with a file below 100 kB."""
    import onnx.backend.test as home

    folder = Path(home.__file__).parent / "data" / "light"
    return [path.read_bytes() for path in sorted(folder.glob("*.onnx")) if path.stat().st_size < 100_000]


if __name__ == "__main__":
    sys.exit(main())
