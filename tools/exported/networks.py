"""The networks of docs/coverage.md: torchvision's, timm's and Keras's definitions with random weights.

A network is listed once per architecture, in its smallest published width where there are several: what is asked is
whether its operators are there and right, and that does not grow with the width. Images are as small as the network
takes them, since time goes to float64 gradients on two sides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from exported.table import exporters_of

CLASSES = 10

# Images that the running statistics of BatchNorm are found on.
CALIBRATION = 8

# What each exporter is asked for.
OPSETS = {"legacy": 17, "dynamo": 20, "tf2onnx": 17}


class Network(NamedTuple):
    """A network.

    Attributes:
        name: as its library calls it.
        library: "torchvision", "torchvision.segmentation", "torchvision.video", "timm" or "keras" (its applications).
        size: height and width of the images; a video has FRAMES of them.
        options: further arguments of its constructor.
    """

    name: str
    library: str
    size: int
    options: dict[str, Any] = {}

    @property
    def exporters(self) -> tuple[str, ...]:
        return exporters_of(self.library)


FRAMES = 8


def _torchvision(size: int, *names: str, **options: Any) -> list[Network]:
    return [Network(name, "torchvision", size, options) for name in names]


def _timm(size: int, *names: str, **options: Any) -> list[Network]:
    return [Network(name, "timm", size, options) for name in names]


def _keras(size: int, *names: str) -> list[Network]:
    return [Network(name, "keras", size) for name in names]


NETWORKS: list[Network] = [
    *_torchvision(224, "alexnet", "vgg11", "vgg16_bn"),
    *_torchvision(64, "resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121"),
    *_torchvision(64, "squeezenet1_0", "squeezenet1_1"),
    *_torchvision(64, "googlenet", init_weights=False),
    *_torchvision(96, "inception_v3", init_weights=False),
    *_torchvision(64, "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "shufflenet_v2_x0_5", "mnasnet0_5"),
    *_torchvision(64, "efficientnet_b0", "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny"),
    *_torchvision(64, "vit_b_32", image_size=64),
    *_torchvision(64, "swin_t", "swin_v2_t"),
    *_torchvision(224, "maxvit_t"),
    *(
        Network(name, "torchvision.segmentation", 64, {"weights_backbone": None})
        for name in ("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
    ),
    *(Network(name, "torchvision.video", 32) for name in ("r3d_18", "mc3_18", "r2plus1d_18")),
    # ResNet and what came of it
    *_timm(64, "resnet18d", "resnetblur50", "resnetaa34d", "resnetrs50", "resnetv2_50", "resnetv2_50x1_bit"),
    *_timm(64, "resnest14d", "res2net50_26w_4s", "seresnet18", "legacy_seresnet18", "skresnet18", "ecaresnet26t"),
    *_timm(64, "gcresnext26ts", "gernet_s", "tresnet_m", "regnetz_005", "nf_resnet26", "nf_regnet_b0", "nfnet_l0"),
    *_timm(64, "dla34", "dpn48b", "densenetblur121d", "rdnet_tiny", "hrnet_w18_small", "selecsls42b"),
    *_timm(64, "cspresnet50", "darknet53", "cs3darknet_s", "ese_vovnet19b_slim", "hgnetv2_b0"),
    *_timm(64, "xception41"),
    *_timm(96, "legacy_xception", "inception_resnet_v2"),
    # In smaller images its last maps are single pixels: a batch of two has two values a channel, which BatchNorm makes
    # +1 and -1 whatever they are, and the gradients before that are rounding.
    *_timm(128, "inception_v4"),
    # for phones
    *_timm(64, "mobilenetv1_100", "mobilenetv4_conv_small", "semnasnet_050", "spnasnet_100", "fbnetc_100", "lcnet_050"),
    *_timm(64, "hardcorenas_a", "mixnet_s", "tinynet_e", "efficientnet_lite0", "efficientnet_es", "rexnet_100"),
    *_timm(64, "ghostnet_050", "repghostnet_050", "repvgg_a0", "mobileone_s0", "repvit_m0_9"),
    *_timm(64, "starnet_s1", "fasternet_t0"),
    *_timm(128, "ghostnetv2_100"),  # as inception_v4
    # convolutions as transformers are built, and both together
    *_timm(64, "convmixer_768_32", "convnextv2_atto", "inception_next_atto", "poolformer_s12", "focalnet_tiny_srf"),
    *_timm(64, "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "fastvit_t8", "efficientvit_b0"),
    *_timm(64, "mambaout_femto", "caformer_s18", "pvt_v2_b0", "xcit_nano_12_p16_224"),
    *_timm(64, "davit_tiny", "twins_pcpvt_small", "twins_svt_small", "nextvit_small", "efficientvit_m0"),
    *_timm(64, "visformer_tiny", "levit_128s", "levit_conv_128s", "efficientformer_l1", img_size=64),
    *_timm(224, "efficientformerv2_s0", "gcvit_xxtiny", "coatnet_pico_rw_224", "swiftformer_xs", "tiny_vit_5m_224"),
    *_timm(256, "eca_botnext26ts_256", "halonet26t", "lambda_resnet26t"),
    # attention and perceptrons
    *_timm(64, "deit_tiny_patch16_224", "cait_xxs24_224", "mixer_s32_224", "resmlp_12_224", img_size=64),
    *_timm(64, "gmlp_ti16_224", "convit_tiny", "pit_ti_224", "volo_d1_224", img_size=64),
    *_keras(64, "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ResNet50", "ResNet50V2"),
    *_keras(64, "DenseNet121", "ConvNeXtTiny"),
    *_keras(96, "Xception", "InceptionV3"),
]


# What a row needs that others do not, or why it is red where that is not cconv's fault.
_BIAS = (
    "With `optimize=False`, the exporter adds a bias of the wrong shape (channels, 2) to three-dimensional "
    "convolutions that have none. onnxruntime and cconv refuse it. The trainable file, which keeps BatchNorm, is "
    "therefore exported from `torch.export.export(...).run_decompositions()`. The default file needs no other "
    "options."
)
NOTES = {f"{name} dynamo": _BIAS for name in ("r3d_18", "mc3_18", "r2plus1d_18")}
NOTES["ConvNeXtTiny tf2onnx"] = (
    "tf2onnx converts Keras's grouped convolutions to calls of TensorFlow functions and its Gelu to the operator Erfc. "
    "ONNX has neither."
)


def find(name: str) -> Network:
    """The network of this name.

    Raises:
        ValueError: there is none.
    """
    for network in NETWORKS:
        if network.name == name:
            return network
    raise ValueError(f"no network {name!r}; there are {', '.join(network.name for network in NETWORKS)}")


def shape(network: Network, batch: int) -> tuple[int, ...]:
    """Of its input: channels first in PyTorch, last in Keras."""
    batch, channels, *sizes = _channels_first(network, batch)
    return (batch, *sizes, channels) if network.library == "keras" else (batch, channels, *sizes)


def _channels_first(network: Network, batch: int) -> tuple[int, ...]:
    frames = (FRAMES,) if network.library == "torchvision.video" else ()
    return (batch, 3, *frames, network.size, network.size)


def images(network: Network, batch: int, seed: int = 0) -> np.ndarray:
    """Noise of several scales, from one value a channel to one a pixel. Shape as `shape` says, float32.

    With noise of pixels alone deep layers see one image like the other, BatchNorm enlarges what little is left of the
    difference, and rounding with it.
    """
    rng = np.random.default_rng([batch, seed])
    *lead, height, width = _channels_first(network, batch)
    x = np.zeros((*lead, height, width))
    for cells in (1, 4, 16, height):
        rows, columns = (np.arange(n) * cells // n for n in (height, width))
        x += rng.standard_normal((*lead, cells, cells))[..., rows[:, None], columns] / 2
    if network.library == "keras":
        x = np.moveaxis(x, 1, -1)
    return np.ascontiguousarray(x, dtype=np.float32)
