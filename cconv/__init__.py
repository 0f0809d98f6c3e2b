"""cconv: train and fine-tune convolutional ONNX networks on a CPU.

    import cconv
    from cconv import nn, optim, data, finetune

    model = cconv.load("resnet18.onnx")        or nn.Sequential(...).build((3, 224, 224))
    print(cconv.doctor(model))                 what stands in the way of training
    model = finetune.repair(model, images)     folded BatchNorm, a fixed batch size, ... put right
    model = finetune.replace_head(model, classes=["cat", "dog"])
    trainer = cconv.Trainer(model, optimizer=optim.SGD(lr=0.01), trainable=finetune.head_weights(model))
    trainer.fit(train, epochs=5, validation=val)
    model.save("tuned.onnx")
    print(cconv.check(model, inputs=x))        against onnxruntime

The names below are loaded on first use, so `import cconv` costs next to nothing, and onnxruntime is loaded by
`check` alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cconv import errors
from cconv.errors import CconvError

if TYPE_CHECKING:
    from cconv import callbacks as callbacks
    from cconv import data as data
    from cconv import finetune as finetune
    from cconv import losses as losses
    from cconv import metrics as metrics
    from cconv import nn as nn
    from cconv import optim as optim
    from cconv import schedules as schedules
    from cconv.finetune import doctor as doctor
    from cconv.functional import conv1d as conv1d
    from cconv.functional import conv1d_input_gradient as conv1d_input_gradient
    from cconv.functional import conv1d_weight_gradient as conv1d_weight_gradient
    from cconv.functional import conv2d as conv2d
    from cconv.functional import conv2d_input_gradient as conv2d_input_gradient
    from cconv.functional import conv2d_weight_gradient as conv2d_weight_gradient
    from cconv.functional import conv3d as conv3d
    from cconv.functional import conv3d_input_gradient as conv3d_input_gradient
    from cconv.functional import conv3d_weight_gradient as conv3d_weight_gradient
    from cconv.functional import conv_transpose1d as conv_transpose1d
    from cconv.functional import conv_transpose1d_input_gradient as conv_transpose1d_input_gradient
    from cconv.functional import conv_transpose1d_weight_gradient as conv_transpose1d_weight_gradient
    from cconv.functional import conv_transpose2d as conv_transpose2d
    from cconv.functional import conv_transpose2d_input_gradient as conv_transpose2d_input_gradient
    from cconv.functional import conv_transpose2d_weight_gradient as conv_transpose2d_weight_gradient
    from cconv.functional import conv_transpose3d as conv_transpose3d
    from cconv.functional import conv_transpose3d_input_gradient as conv_transpose3d_input_gradient
    from cconv.functional import conv_transpose3d_weight_gradient as conv_transpose3d_weight_gradient
    from cconv.graph.limits import Limits as Limits
    from cconv.kernels.core.threads import get_num_threads as get_num_threads
    from cconv.kernels.core.threads import set_num_threads as set_num_threads
    from cconv.model import Model as Model
    from cconv.model import load as load
    from cconv.prove import certify as certify
    from cconv.prove import check as check
    from cconv.train.trainer import Trainer as Trainer
    from cconv.versions import show_versions as show_versions

__version__ = "0.1.0"

# name: (module, what in it; "" is the module itself). The same names as above, which type checkers read.
_LAZY: dict[str, tuple[str, str]] = {
    "Limits": ("cconv.graph.limits", "Limits"),
    "Model": ("cconv.model", "Model"),
    "Trainer": ("cconv.train.trainer", "Trainer"),
    "callbacks": ("cconv.callbacks", ""),
    "certify": ("cconv.prove", "certify"),
    "check": ("cconv.prove", "check"),
    "data": ("cconv.data", ""),
    "doctor": ("cconv.finetune", "doctor"),
    "finetune": ("cconv.finetune", ""),
    "get_num_threads": ("cconv.kernels.core.threads", "get_num_threads"),
    "load": ("cconv.model", "load"),
    "losses": ("cconv.losses", ""),
    "metrics": ("cconv.metrics", ""),
    "nn": ("cconv.nn", ""),
    "optim": ("cconv.optim", ""),
    "schedules": ("cconv.schedules", ""),
    "set_num_threads": ("cconv.kernels.core.threads", "set_num_threads"),
    "show_versions": ("cconv.versions", "show_versions"),
    **{
        name: ("cconv.functional", name)
        for kind in ("conv", "conv_transpose")
        for rank in (1, 2, 3)
        for name in (f"{kind}{rank}d", f"{kind}{rank}d_input_gradient", f"{kind}{rank}d_weight_gradient")
    },
}

__all__ = ["CconvError", "__version__", "errors", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cconv' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    found = importlib.import_module(module)
    globals()[name] = getattr(found, attribute) if attribute else found
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
