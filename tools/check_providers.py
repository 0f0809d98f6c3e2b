"""Check networks on every execution provider that the installed onnxruntime has, at every level of optimization.

    python tools/check_providers.py cconv-demo/base.onnx --require OpenVINO

Checked are the files given and a ResNet-18 with random weights, at two batch sizes. A provider other than the CPU comes
with a build of onnxruntime of its own, which takes the place of the plain one: so this runs in an environment made for
it (see .ci/run), and imports nothing but cconv and what that needs. Exit status 1: a check failed, or the provider that
was required did not run.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import onnx
from benchmark.networks import build
from onnx import helper

import cconv
from cconv.prove import random_inputs

SIZE = 64  # of the images: ResNet-18's layers are those of size 224, only their maps are smaller


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL.onnx")
    parser.add_argument("--require", metavar="PROVIDER", help="one that must have run, such as OpenVINO")
    options = parser.parse_args()

    models = {path: cconv.load(path) for path in options.models}
    models["ResNet-18"] = build("resnet18", SIZE)
    all_well = True
    for name, model in models.items():
        inputs = random_inputs(model, batch=4)
        report = cconv.check(model, inputs, providers="all", optimization="all", batches=[1, 4], nodes=True)
        ran = {provider.removesuffix("ExecutionProvider") for provider in report.providers}
        missing = options.require is not None and options.require not in ran
        print(f"{name}: {report}", f"\n{options.require} did not run" if missing else "", sep="")
        all_well &= report.ok and not missing

    if options.require is not None:
        all_well &= refuses(options.require)
    return 0 if all_well else 1


def refuses(provider: str) -> bool:
    """Whether a node that the provider leaves to the CPU is refused at every level, instead of passed.

    The node is an LpPool, for which no provider but the CPU has a kernel.
    """
    graph = helper.make_graph(
        [helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[2, 2])],
        "left to the CPU",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 6, 6])],
        [onnx.ValueInfoProto(name="y")],
    )
    model = cconv.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    report = cconv.check(model, np.ones((1, 4, 6, 6), np.float32), providers=[provider], optimization="all")
    print(f"\na node that {provider} leaves to the CPU:\n{report}")
    return not report.comparisons and all(run.refused for run in report.runs)


if __name__ == "__main__":
    sys.exit(main())
