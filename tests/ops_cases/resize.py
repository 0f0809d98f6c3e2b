import numpy as np

from ops_cases.case import Case


def ints(*values):
    return np.array(values, dtype=np.int64)


def floats(*values):
    return np.array(values, dtype=np.float32)


NONE = floats()
REASON = "onnxruntime computes coordinates and weights in float32"


def resize(shape, scales=None, sizes=None, region=NONE, opset=19, **attributes):
    inputs = [shape, region, NONE if scales is None else floats(*scales)]
    if sizes is not None:
        inputs[2:] = [None if opset > 11 else NONE, ints(*sizes)]
    note = f"{scales or ''}{sizes or ''}{region.tolist()}"
    return Case("Resize", inputs, attributes, (1, 2, 3), opset, tolerance=5e-6, reason=REASON, note=note)


CASES = [
    resize((1, 2, 4, 5), scales, mode="nearest", nearest_mode=kind, coordinate_transformation_mode=mode, opset=opset)
    for mode in ("half_pixel", "asymmetric", "align_corners")
    for kind in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    for scales, opset in [((1, 1, 2, 3), 11), ((1, 1, 0.5, 0.6), 13)]
]
MODES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
CASES += [
    resize(shape, None, sizes, mode=kind, coordinate_transformation_mode=mode, opset=opset)
    for kind, shape, sizes in [
        ("nearest", (1, 3, 4, 5), (1, 3, 8, 5)),
        ("nearest", (2, 17, 4, 5), (2, 17, 3, 7)),
        ("linear", (2, 3, 4, 5), (2, 3, 8, 10)),
        ("linear", (2, 17, 4, 5), (2, 17, 3, 7)),
        ("linear", (1, 3, 4, 5), (1, 3, 1, 1)),
        ("linear", (1, 2, 3, 4, 5), (1, 2, 5, 3, 10)),
        ("linear", (1, 40, 30, 30), (1, 40, 60, 60)),
        ("cubic", (2, 3, 4, 5), (2, 3, 9, 4)),
        ("cubic", (1, 18, 4, 5), (1, 18, 4, 11)),
    ]
    for mode in MODES
    for opset in (11, 19)
    if not (kind == "nearest" and mode == "pytorch_half_pixel")
]
CASES += [
    resize(
        (1, 2, 4, 5),
        None,
        (1, 2, 8, 3),
        mode="nearest",
        coordinate_transformation_mode="tf_half_pixel_for_nn",
        opset=11,
    ),
    resize((1, 2, 4, 5), None, (1, 2, 9, 4), mode="cubic", cubic_coeff_a=-0.5),
    resize((1, 2, 4, 5), None, (1, 2, 9, 4), mode="cubic", exclude_outside=1),
    resize((1, 2, 4, 5), (1, 1, 0.8, 0.8), mode="linear"),
    resize((1, 2, 4, 5), (1, 1, 0.8, 0.8), mode="cubic", coordinate_transformation_mode="half_pixel_symmetric"),
    resize((1, 2, 4, 5), (1, 1, 2.3, 2.3), mode="linear", coordinate_transformation_mode="half_pixel_symmetric"),
    # Any axes, and layouts that a convolution does not give.
    resize((4, 6), None, (7, 3), mode="linear"),
    resize((3, 4, 6), None, (3, 4, 9), mode="linear"),
    resize((2, 5, 6, 3), (1, 2, 2, 1), mode="linear"),
    resize((2, 3, 4), None, (4, 3, 6), mode="nearest"),
    resize((2, 3, 4, 5), (2, 2, 1, 1), mode="nearest"),
]
CASES += [
    resize((1, 2, 4, 5), None, (6, 8), mode=kind, axes=axes, keep_aspect_ratio_policy=policy)
    for kind in ("nearest", "linear")
    for axes in ([2, 3], [3, 2])
    for policy in ("stretch", "not_larger", "not_smaller")
]
CASES += [
    resize((1, 3, 6, 8), None, (1, 3, 3, 5), mode=kind, antialias=1, exclude_outside=outside)
    for kind in ("linear", "cubic")
    for outside in (0, 1)
]
CASES += [
    resize(
        (1, 2, 5, 6),
        None,
        (1, 2, 4, 7),
        floats(0, 0, *region[:2], 1, 1, *region[2:]),
        mode=kind,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=value,
    )
    for kind in ("linear", "nearest", "cubic")
    for region in ((0.2, 0.1, 0.8, 0.9), (-0.3, 0.5, 0.9, 1.4), (0.5, 0.5, 0.5, 0.7), (0, 0, 1, 1))
    for value in (0.0, 1.5)
]
CASES += [
    Case("Resize", [shape, floats(*scales)], {"mode": kind}, (1,), 10, note=f"{scales}")
    for shape, scales, kind in [
        ((1, 2, 4, 5), (1, 1, 2, 3), "nearest"),
        ((1, 2, 4, 5), (1, 1, 2, 1.5), "linear"),
        ((1, 2, 4, 6), (1, 1, 0.5, 0.5), "nearest"),
    ]
]
CASES += [
    Case("Upsample", [(1, 2, 4, 5)], {"scales": [1.0, 1.0, 2.0, 1.5], "mode": kind}, opset=opset)
    for kind in ("nearest", "linear")
    for opset in (7, 8)
]
CASES += [
    Case("Upsample", [shape, floats(*scales)], {"mode": kind}, (1,), 9, note=f"{scales}")
    for kind in ("nearest", "linear")
    for shape, scales in [((2, 19, 4, 5), (1, 1, 2, 2)), ((1, 2, 3, 3), (1, 1, 1, 3))]
]
CASES += [
    Case(
        "Resize",
        [np.arange(20, dtype=dtype).reshape(1, 1, 4, 5), NONE, floats(1, 1, 2, 0.6)],
        {"mode": "nearest"},
        (1, 2),
        13,
        note=dtype,
    )
    for dtype in ("uint8", "int32")
]
# What opset 18 brought. There onnxruntime has other roundings in one of the policies, which 19 settled.
CASES += [
    resize((1, 2, 4, 5), None, (6, 8), mode="linear", axes=[2, 3], keep_aspect_ratio_policy="stretch", opset=18),
    resize((1, 3, 6, 8), None, (1, 3, 3, 5), mode="linear", antialias=1, opset=18),
    resize((1, 3, 6, 8), None, (1, 3, 3, 5), mode="cubic", antialias=1, opset=18),
]
