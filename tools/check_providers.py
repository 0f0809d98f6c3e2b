"""Compare cconv with onnxruntime on every execution provider of the installed onnxruntime, at every optimization level.

    python tools/check_providers.py cconv-demo/base.onnx --require OpenVINO

The checked models are the given files and a ResNet-18 with random weights, each at two batch sizes. A provider other
than the CPU needs another build of onnxruntime, which replaces the standard package. CI therefore runs this script in a
separate environment (see .ci/run), and the script imports only cconv and the dependencies of cconv.

The exit status is 1 if a check failed, or if the provider named by --require did not run.
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

# Height and width of the images. ResNet-18 has the same layers as at 224, only with smaller feature maps.
SIZE = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL.onnx")
    parser.add_argument("--require", metavar="PROVIDER", help="fail unless this provider ran, such as OpenVINO")
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
    """Whether `cconv.check` reports REFUSED, at every level, if the provider leaves a node to the CPU.

    The model is a single LpPool, for which only the CPU provider has a kernel.
    """
    graph = helper.make_graph(
        [helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[2, 2])],
        "left to the CPU",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4, 6, 6])],
        [onnx.ValueInfoProto(name="y")],
    )
    model = cconv.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    report = cconv.check(model, np.ones((1, 4, 6, 6), np.float32), providers=[provider], optimization="all")
    print(f"\na model with a node that {provider} cannot run (must be refused):\n{report}")
    return not report.comparisons and all(run.refused for run in report.runs)


if __name__ == "__main__":
    sys.exit(main())
