"""How long cconv takes to load a network and to lay out its training step; tools/coverage.py starts it.

cd tools && python -m exported.loading export resnet50 dynamo resnet50.onnx
cd tools && python -m exported.loading time resnet50.onnx        prints {"nodes": ..., "seconds": ...}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from exported.networks import OPSETS, find

SHAPE = (1, 3, 224, 224)


def export(name: str, exporter: str, path: Path) -> None:
    """Write the file that the exporter makes when nothing is asked for."""
    from exported.torch_side import Module

    network = find(name)._replace(size=SHAPE[-1])
    path.write_bytes(Module(network).export(exporter, OPSETS[exporter], trainable=False)[0])


def timed(path: Path) -> dict[str, float]:
    import cconv

    begin = time.perf_counter()
    model = cconv.load(path)
    cconv.Trainer(model).plan_bytes({model.input_names[0]: SHAPE})
    return {"nodes": len(model.nodes), "seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(*sys.argv[2:4], Path(sys.argv[4]))
    else:
        print(json.dumps(timed(Path(sys.argv[2]))))
