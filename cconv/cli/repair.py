"""`cconv repair`: make a model fit for training, each repair proved."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cconv.cli import options as shared
from cconv.cli.status import FAILED, OK
from cconv.errors import OutputError, explain
from cconv.files import check_target

SUMMARY = "make a model fit for training, each repair proved"
EXAMPLE = "cconv repair model.onnx repaired.onnx --data images.npy"
NOTE = """\
exit status: 0 the repaired model can be trained; 1 it cannot, as the report says, or a
repair was taken back (OUT.onnx is written all the same); 2 nothing was written"""


def add_options(parser: argparse.ArgumentParser) -> None:
    shared.add_model(parser, "IN.onnx")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help=".npy or .npz of examples to calibrate BatchNormalization on"
    )
    parser.add_argument("--dropout", type=float, metavar="RATE", help="put a Dropout before the classifier")
    parser.add_argument("--skip", default="", metavar="LIST", help="repairs to leave out, as the report names them")
    parser.add_argument(
        "--for-training",
        action="store_true",
        help="write the form that is trained: without what is put back at save (Softmax, float16)",
    )
    shared.add_shape(parser)


def run(options: argparse.Namespace) -> int:
    import cconv
    from cconv import finetune

    loaded = cconv.load(options.model)
    data = {entry for entries in loaded.external.values() for key, entry in entries if key == "location"}
    _check_out(options.out, [options.model, *(options.model.parent / name for name in data), options.data])
    model = finetune.repair(
        loaded,
        None if options.data is None else shared.read_arrays(options.data),
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
        print(f"\nWhat still prevents training:\n\n{diagnosis.errors_alone()}")
    return OK if model.repairs.ok and diagnosis.trainable else FAILED


def _check_out(out: Path, read: Sequence[Path | None]) -> None:
    """Before any work is done: that a file can be written there, and replaces none of those `read`.

    Raises:
        OutputError: it cannot, or would.
    """
    check_target(out)
    for path in read:
        if path is not None and path.exists() and out.exists() and out.samefile(path):
            fix = "Choose another name; move the new file over the old one later."
            raise OutputError(explain(f"file '{out}'", "is another file than those that are read", f"'{path}'", fix))
