"""Compare the results of two versions of cconv bit by bit, as SHA-256 hashes.

    python tools/same_bits.py models FOLDER          write networks of torchvision as ONNX files (needs torchvision)
    python tools/same_bits.py built FOLDER           write networks built with cconv.nn or by hand as ONNX files
    python tools/same_bits.py hashes FOLDER          train and run each network, print SHA-256 hashes as JSON
    python tools/same_bits.py compare A.json B.json  exit status 1 if a hash of A differs in B or is missing there

`hashes` starts one process for each build that this processor can run and each number of threads. It uses only public
names of cconv, so an old and a new version of cconv can run the same script:

    PYTHONPATH= old/bin/python tools/same_bits.py hashes models > old.json

Hashed are all weights and running statistics after 20 steps of SGD with momentum 0.9 on random images, and the outputs
of the trained model for 3 images. For the build "float64", only the outputs of the untrained model are hashed, with all
tensors in float64.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

BATCH, STEPS, CLASSES = 8, 20, 10
THREADS = (1, 2)
EXPORTED = ("resnet18", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "densenet121")


def write_models(folder: Path) -> None:
    """Write the networks of torchvision in EXPORTED, as PyTorch exports them for training."""
    folder.mkdir(parents=True, exist_ok=True)
    from exported.networks import find
    from exported.torch_side import Module

    for name in EXPORTED:
        (folder / f"{name}.onnx").write_bytes(Module(find(name)).export("legacy", 17, trainable=True)[0])


def write_built(folder: Path) -> None:
    """Write LeNet-5, a network for signals (1-d convolutions) and a U-Net."""
    from benchmark import networks

    from cconv import nn

    networks.build("lenet5").save(folder / "lenet5.onnx")
    signal = nn.Sequential(
        nn.Conv1d(2, 24, 7, stride=2, padding=3), nn.BatchNorm1d(24), nn.ReLU(),
        nn.Conv1d(24, 48, 5, padding=2), nn.BatchNorm1d(48), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(48, 64, 3, padding=1), nn.ReLU(), nn.GlobalAvgPool(), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip
    signal.build((2, 128), seed=0).save(folder / "signal.onnx")
    (folder / "unet.onnx").write_bytes(unet())


def unet() -> bytes:
    """A U-Net of two levels for 32x32 images: transposed convolutions and concatenations."""
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, arrays = [], []

    def weight(name: str, *shape: int) -> str:
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        arrays.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name))
        return name

    def conv(x: str, inputs: int, outputs: int, name: str) -> str:
        kernel = weight(f"{name}.w", outputs, inputs, 3, 3)
        nodes.append(helper.make_node("Conv", [x, kernel], [name], name, pads=[1] * 4))
        norm = [weight(f"{name}.{part}", outputs) for part in ("scale", "bias", "mean")]
        arrays.append(numpy_helper.from_array(np.ones(outputs, np.float32), f"{name}.var"))
        nodes.append(helper.make_node("BatchNormalization", [name, *norm, f"{name}.var"], [f"{name}.n"], f"{name}.n"))
        nodes.append(helper.make_node("Relu", [f"{name}.n"], [f"{name}.r"], f"{name}.r"))
        return f"{name}.r"

    down1 = conv("x", 3, 16, "down1")
    nodes.append(helper.make_node("MaxPool", [down1], ["p1"], "p1", kernel_shape=[2, 2], strides=[2, 2]))
    down2 = conv("p1", 16, 32, "down2")
    nodes.append(helper.make_node("MaxPool", [down2], ["p2"], "p2", kernel_shape=[2, 2], strides=[2, 2]))
    bottom = conv("p2", 32, 64, "bottom")
    above = bottom
    for level, inputs, skip in ((2, 64, down2), (1, 32, down1)):
        name, outputs = f"up{level}", inputs // 2
        upsample = [above, weight(f"{name}.w", inputs, outputs, 2, 2)]
        nodes.append(helper.make_node("ConvTranspose", upsample, [name], name, strides=[2, 2]))
        nodes.append(helper.make_node("Concat", [name, skip], [f"{name}.c"], f"{name}.c", axis=1))
        above = conv(f"{name}.c", inputs, outputs, f"{name}.conv")
    last = [above, weight("last.w", CLASSES, 16, 1, 1)]
    nodes.append(helper.make_node("Conv", last, ["y"], "last"))
    value = helper.make_tensor_value_info
    x, y = value("x", 1, ["N", 3, 32, 32]), value("y", 1, ["N", CLASSES, 32, 32])
    graph = helper.make_graph(nodes, "unet", [x], [y], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return model.SerializeToString()


def images_of(model, path: Path, count: int, seed: int) -> np.ndarray:
    """`count` random inputs of the model. Axes that the model leaves open have size 64."""
    (spec,) = model.input_specs.values()
    size = {"densenet121": 64, "convnext_tiny": 64}.get(path.stem)
    dims = [64 if not isinstance(n, int) else n for n in spec.dims[1:]]
    if size is not None:
        dims[1:] = [size] * (len(dims) - 1)
    return np.random.default_rng(seed).standard_normal((count, *dims)).astype(np.float32)


def hashes(path: Path, threads: int) -> dict[str, str]:
    """Hashes of the weights and outputs of one network, and its first and last loss, on the build in use."""
    import cconv
    from cconv import optim

    model = cconv.load(path)
    x = images_of(model, path, BATCH, 1)
    spatial = model.run(x[:1]).shape[2:]
    y = np.random.default_rng(2).integers(0, CLASSES, (BATCH, *spatial))
    trainer = cconv.Trainer(model, loss="cross_entropy", optimizer=optim.SGD(lr=0.01, momentum=0.9), threads=threads)
    losses = [trainer.step(x, y) for _ in range(STEPS)]
    weights = hashlib.sha256()
    for name in sorted(model.weights):
        weights.update(name.encode() + model.weights[name].tobytes())
    outputs = model.run(images_of(model, path, 3, 3), threads=threads)
    return {
        "weights": weights.hexdigest(),
        "outputs": hashlib.sha256(outputs.tobytes()).hexdigest(),
        "losses": f"{losses[0]!r} {losses[-1]!r}",
    }


def hashes_float64(path: Path, threads: int) -> dict[str, str]:
    """Hash of the outputs of the untrained network with all its tensors converted to float64."""
    import onnx
    from onnx import TensorProto, numpy_helper

    import cconv

    x = images_of(cconv.load(path), path, 3, 3)
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
                array = numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(numpy_helper.from_array(array, attribute.t.name))
    outputs = cconv.load(proto).run(x.astype(np.float64), threads=threads)
    return {"outputs": hashlib.sha256(outputs.tobytes()).hexdigest()}


def builds() -> list[str]:
    """Names of the float32 builds that this processor can run, and "float64"."""
    from cconv.kernels import builds

    return [*builds(), "float64"]


def run_all(folder: Path) -> dict[str, dict[str, str]]:
    """Hashes of all networks in the folder by "build threads network", each computed in its own process."""
    result = {}
    for build in builds():
        for threads in THREADS:
            environment = {**os.environ, **({} if build == "float64" else {"CCONV_ISA": build})}
            for path in sorted(folder.glob("*.onnx")):
                command = [sys.executable, "-P", __file__, "one", str(path), build, str(threads)]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                hashed = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr[-300:]}
                result[f"{build} {threads} {path.stem}"] = hashed
                print(f"{build} {threads} {path.stem}", file=sys.stderr)
    return result


def compare(a: dict[str, dict[str, str]], b: dict[str, dict[str, str]]) -> list[str]:
    """One line for each entry of `a` that differs in `b` or is missing there."""
    return [f"{key}: {a[key]} / {b.get(key)}" for key in a if a[key] != b.get(key)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("models", "built", "hashes", "one", "compare"))
    parser.add_argument("arguments", nargs="+")
    args = parser.parse_args()
    first = Path(args.arguments[0])
    if args.command == "models":
        write_models(first)
    elif args.command == "built":
        write_built(first)
    elif args.command == "hashes":
        json.dump(run_all(first), sys.stdout, indent=1)
    elif args.command == "one":
        build, threads = args.arguments[1], int(args.arguments[2])
        json.dump((hashes_float64 if build == "float64" else hashes)(first, threads), sys.stdout)
    else:
        a, b = (json.loads(Path(name).read_text()) for name in args.arguments)
        lines = compare(a, b)
        print("\n".join(lines) or f"{len(a)} entries, all equal")
        return bool(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
