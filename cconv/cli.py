"""The command `cconv`.

Exit status: 0 all well, 1 a check that failed, 2 a wrong call or an error of cconv (one line on stderr),
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cconv.errors import CconvError, OutputError, ValueRangeError, explain
from cconv.files import check_target

OK, FAILED, ERROR, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's); returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (CconvError, OSError) as error:
        print(f"cconv: {error}", file=sys.stderr)
        return ERROR
    except KeyboardInterrupt:
        print("cconv: interrupted", file=sys.stderr)
        return INTERRUPTED


def _demo(options: argparse.Namespace) -> int:
    import cconv
    from cconv.demo import demo

    if options.threads is not None:
        cconv.set_num_threads(options.threads)
    result = demo(options.out, seed=options.seed, epochs=options.epochs, progress=options.progress)
    print(result)
    return OK if result.ok else FAILED


def _check(options: argparse.Namespace) -> int:
    import cconv
    from cconv.check import random_inputs

    model = cconv.load(options.model)
    if options.inputs is None:
        size = options.batch if options.batches is None else max(options.batches)
        inputs: Any = random_inputs(model, size, options.seed)
    else:
        inputs = _read_inputs(options.inputs)
    report = cconv.check(
        options.model,
        inputs,
        providers=_all_or_list(options.providers),
        tolerance=options.tolerance,
        optimization=_all_or_list(options.optimization),
        batches=options.batches,
        nodes=options.nodes,
    )
    print(report)
    return OK if report.ok else FAILED


def _certify(options: argparse.Namespace) -> int:
    import numpy as np

    import cconv
    from cconv.check import random_inputs

    model = cconv.load(options.model)
    x = random_inputs(model, options.batch, options.seed) if options.inputs is None else _read_inputs(options.inputs)
    output = options.output or model.output_names[0]
    if options.targets is not None:
        y = _read_inputs(options.targets)
    else:
        results = model.run(x)
        shape = (results[output] if isinstance(results, dict) else results).shape
        rng = np.random.default_rng(options.seed)
        if options.loss == "mse" or len(shape) < 2:
            y = rng.standard_normal(shape).astype(np.float32)
        else:
            y = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    report = cconv.certify(
        model,
        x,
        y if isinstance(y, dict) else {output: y},
        {output: options.loss},
        samples=options.samples,
        batchnorm=options.batchnorm,
        tolerance=options.tolerance,
        seed=options.seed,
        progress=options.progress,
    )
    print(report)
    return OK if report.ok else FAILED


def _info(options: argparse.Namespace) -> int:
    import cconv

    print(cconv.load(options.model).summary())
    return OK


def _doctor(options: argparse.Namespace) -> int:
    import json

    import cconv

    diagnosis = cconv.doctor(options.model, batch=options.batch, input_shapes=dict(options.shape))
    print(json.dumps(diagnosis.as_dict(), indent=2) if options.json else diagnosis)
    return OK if diagnosis.trainable else FAILED


def _repair(options: argparse.Namespace) -> int:
    import cconv
    from cconv import finetune

    loaded = cconv.load(options.model)
    data = {entry for entries in loaded.external.values() for key, entry in entries if key == "location"}
    _check_out(options.out, [options.model, *(options.model.parent / name for name in data), options.data])
    model = finetune.repair(
        loaded,
        None if options.data is None else _read_inputs(options.data),
        skip=[name.strip() for name in options.skip.split(",") if name.strip()],
        dropout=options.dropout,
        input_shapes=dict(options.shape),
    )
    if options.for_training:
        model.at_save = ()
    model.save(options.out)
    print(model.repairs)
    print(f"\nwritten to {options.out}" + (", in the form that is trained" if options.for_training else ""))
    diagnosis = cconv.doctor(model, input_shapes=dict(options.shape))
    if not diagnosis.trainable:
        print(f"\nWhat still stands in the way of training:\n\n{diagnosis.errors_alone()}")
    return OK if model.repairs.ok and diagnosis.trainable else FAILED


def _check_out(out: Path, read: Sequence[Path | None]) -> None:
    """Before any work is done: that a file can be written there, and takes the place of none of those `read`.

    Raises:
        OutputError: it cannot, or would.
    """
    check_target(out)
    for path in read:
        if path is not None and path.exists() and out.exists() and out.samefile(path):
            fix = "Choose another name; move the new file over the old one later."
            raise OutputError(explain(f"file '{out}'", "is another file than those that are read", f"'{path}'", fix))


def _versions(options: argparse.Namespace) -> int:
    import cconv

    cconv.show_versions()
    return OK


def _read_inputs(path: Path) -> Any:
    """The array of an .npy file, or the arrays of an .npz file by name; inputs, or targets.

    Raises:
        ValueRangeError: the file holds neither, or Python objects.
        OSError: it cannot be read.
    """
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError) as error:
        rule = "holds arrays as np.save or np.savez write them, without Python objects"
        raise ValueRangeError(explain(f"{path}", rule, str(error).split("\n", 1)[0].split(". ")[0])) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cconv", description="Train and fine-tune convolutional ONNX networks on a CPU."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    text = "pretrain, fine-tune, export and check a small network on digits"
    demo = _command(commands, "demo", _demo, text)
    folder = Path("cconv-demo")
    demo.add_argument("--out", type=Path, default=folder, metavar="DIR", help=f"for the models ({folder})")
    demo.add_argument("--seed", type=_number(0), default=0, metavar="N", help="of all random choices (0)")
    demo.add_argument("--threads", type=_number(1), metavar="N", help="default: one per processor")
    demo.add_argument("--epochs", type=_number(1), metavar="N", help="of the pretraining")
    demo.add_argument("--no-progress", dest="progress", action="store_false", help="no bars on stderr")

    check = _command(commands, "check", _check, "compare a model in cconv with the same file in onnxruntime")
    check.add_argument("model", type=Path, metavar="MODEL.onnx")
    check.add_argument(
        "--inputs", type=Path, metavar="FILE", help=".npy, or .npz with an array for each input (random)"
    )
    check.add_argument(
        "--providers", default="cpu", metavar="LIST", help="all, or names such as cpu,cuda (cpu)"
    )
    check.add_argument(
        "--tolerance", type=float, default=1e-4, metavar="X", help="share of the largest value (1e-4)"
    )
    check.add_argument(
        "--optimization", default="full", metavar="LIST", help="all, or off,basic,extended,layout,full (full)"
    )
    check.add_argument("--batch", type=_number(1), default=2, metavar="N", help="of random inputs (2)")
    check.add_argument("--batches", type=_numbers, metavar="LIST", help="batch sizes to run, such as 1,4")
    check.add_argument("--nodes", action="store_true", help="find the first node that differs, and who is wrong")
    check.add_argument("--seed", type=_number(0), default=0, metavar="N", help="of random inputs (0)")

    certify = _command(commands, "certify", _certify, "compare a model's gradients with differences of its loss")
    certify.add_argument("model", type=Path, metavar="MODEL.onnx")
    certify.add_argument(
        "--inputs", type=Path, metavar="FILE", help=".npy, or .npz with an array for each input (random)"
    )
    certify.add_argument("--targets", type=Path, metavar="FILE", help="likewise, of the loss (random)")
    certify.add_argument("--loss", choices=["cross_entropy", "mse"], default="cross_entropy", help="(cross_entropy)")
    certify.add_argument("--output", metavar="NAME", help="the output that the loss is of (the first)")
    certify.add_argument(
        "--batchnorm", choices=["batch", "frozen", "statistics"], default="batch", help="as in training (batch)"
    )
    certify.add_argument("--samples", type=_number(1), default=3, metavar="N", help="elements of each weight (3)")
    certify.add_argument("--tolerance", type=float, default=1e-3, metavar="X", help="of float32, relative (1e-3)")
    certify.add_argument("--batch", type=_number(1), default=4, metavar="N", help="of random inputs (4)")
    certify.add_argument("--seed", type=_number(0), default=0, metavar="N", help="of all random choices (0)")
    certify.add_argument("--no-progress", dest="progress", action="store_false", help="no bar on stderr")

    info = _command(commands, "info", _info, "print a model's layers, shapes and sizes")
    info.add_argument("model", type=Path, metavar="MODEL.onnx")

    doctor = _command(commands, "doctor", _doctor, "say what can be trained, what stands in the way, what to do")
    doctor.add_argument("model", type=Path, metavar="MODEL.onnx")
    doctor.add_argument("--batch", type=_number(1), default=32, metavar="N", help="of a training step (32)")
    _shape_option(doctor)
    doctor.add_argument("--json", action="store_true", help="for programs")

    repair = _command(commands, "repair", _repair, "make a model fit for training, each repair proved")
    repair.epilog = (
        "Exit status: 0 the repaired model can be trained; 1 it cannot, as the report says, or a repair was taken back "
        "(OUT.onnx is written all the same); 2 nothing was written."
    )
    repair.add_argument("model", type=Path, metavar="IN.onnx")
    repair.add_argument("out", type=Path, metavar="OUT.onnx")
    repair.add_argument(
        "--data", type=Path, metavar="FILE", help=".npy or .npz of examples to calibrate BatchNormalization on"
    )
    repair.add_argument("--dropout", type=float, metavar="RATE", help="put a Dropout before the classifier")
    repair.add_argument("--skip", default="", metavar="LIST", help="repairs to leave out, as the report names them")
    repair.add_argument(
        "--for-training",
        action="store_true",
        help="write the form that is trained: without what is put back at save (Softmax, float16)",
    )
    _shape_option(repair)

    _command(commands, "versions", _versions, "print versions, processor and kernels, for bug reports")
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def _shape_option(parser: argparse.ArgumentParser) -> None:
    text = "an input's shape, where the model leaves more open than the batch"
    parser.add_argument("--shape", type=_shape, action="append", default=[], metavar="NAME=1,3,224,224", help=text)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    shape = tuple(int(size) for size in sizes.split(","))
    if not name or min(shape) < 1:
        raise ValueError(text)
    return name, shape


_shape.__name__ = "NAME=1,3,224,224"


def _all_or_list(text: str) -> str | list[str]:
    return text if text == "all" else text.split(",")


def _numbers(text: str) -> list[int]:
    """The type of an option that is one or more whole numbers >= 1."""
    return [_number(1)(part) for part in text.split(",")]


_numbers.__name__ = "list of whole numbers >= 1"


def _number(least: int) -> Any:
    """The type of an option that is a whole number of at least `least`."""

    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise ValueError(text)
        return value

    parse.__name__ = f"whole number >= {least}"
    return parse
