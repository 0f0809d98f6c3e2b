from ops_cases.case import Case


def conv(n, c, k, spatial, kernel, group=1, bias=True, op="Conv", note="", opset=11, **attributes):
    weight = (k, c // group, *kernel) if op == "Conv" else (c, k // group, *kernel)
    inputs = [(n, c, *spatial), weight] + ([(k,)] if bias else [])
    if group != 1:
        attributes["group"] = group
    return Case(op, inputs, attributes, opset=opset, tolerance=3e-6, reason="sums of up to 2000 terms", note=note)


CASES = [
    conv(2, 3, 5, (7, 8), (3, 3)),
    conv(2, 3, 5, (7, 8), (3, 3), bias=False, pads=[1, 1, 1, 1]),
    conv(2, 3, 33, (15, 14), (7, 7), strides=[2, 2], pads=[3, 3, 3, 3]),
    conv(2, 3, 33, (15, 14), (7, 7), strides=[2, 3], pads=[3, 0, 2, 1]),
    conv(1, 20, 17, (9, 9), (3, 3), dilations=[2, 3], pads=[2, 3, 2, 3]),
    conv(2, 24, 40, (5, 6), (1, 1)),
    conv(2, 24, 40, (5, 6), (1, 1), strides=[2, 2]),
    conv(1, 1040, 18, (3, 4), (1, 1), note="channels that conflict in the cache"),
    conv(2, 200, 8, (4, 4), (3, 3), pads=[1, 1, 1, 1], note="two blocks of channels"),
    conv(1, 9, 4, (12, 1), (5, 1), pads=[2, 0, 2, 0]),
    conv(3, 4, 6, (11,), (3,), pads=[1, 1]),
    conv(1, 2, 3, (700,), (9,), strides=[2], dilations=[3], pads=[4, 5]),
    conv(1, 3, 4, (4, 5, 6), (3, 2, 3), pads=[1, 0, 1, 1, 1, 1]),
    conv(2, 10, 7, (4, 5, 6), (2, 3, 3), strides=[1, 2, 2], dilations=[2, 1, 1]),
    conv(2, 12, 18, (7, 8), (3, 3), group=3, pads=[1, 1, 1, 1]),
    conv(1, 64, 64, (6, 6), (3, 3), group=32, pads=[1, 1, 1, 1]),
    conv(2, 19, 19, (9, 8), (3, 3), group=19, pads=[1, 1, 1, 1]),
    conv(2, 32, 32, (9, 8), (3, 3), group=32, strides=[2, 2], pads=[1, 1, 1, 1]),
    conv(1, 21, 21, (12, 13), (5, 5), group=21, strides=[2, 3], dilations=[2, 2], pads=[4, 1, 3, 4]),
    conv(1, 6, 6, (20,), (7,), group=6, strides=[3], pads=[3, 3]),
    conv(1, 5, 5, (4, 5, 6), (3, 3, 3), group=5, pads=[1, 1, 1, 1, 1, 1], strides=[2, 1, 2]),
    conv(1, 8, 16, (7, 7), (3, 3), group=8, pads=[1, 1, 1, 1], note="two outputs per channel"),
    conv(1, 2, 3, (8, 9), (3, 4), auto_pad="SAME_UPPER", strides=[2, 3]),
    conv(1, 2, 3, (8, 9), (4, 3), auto_pad="SAME_LOWER", strides=[3, 2]),
    conv(1, 2, 3, (8, 9), (4, 3), auto_pad="VALID", strides=[3, 2]),
    conv(1, 2, 3, (8, 8), (2, 2), strides=[5, 5], note="stride larger than the kernel"),
    conv(3, 3, 5, (1, 1), (3, 3), pads=[1, 1, 1, 1]),
    conv(2, 3, 5, (4, 5), (3, 3), op="ConvTranspose"),
    conv(2, 3, 5, (4, 5), (3, 3), op="ConvTranspose", bias=False, strides=[2, 2], pads=[1, 1, 1, 1]),
    conv(2, 6, 4, (4, 5), (3, 2), op="ConvTranspose", strides=[2, 3], pads=[1, 0, 0, 1],
         output_padding=[1, 2], group=2),
    conv(1, 17, 34, (3, 3), (4, 4), op="ConvTranspose", strides=[2, 2], pads=[1, 1, 1, 1]),
    conv(1, 3, 4, (5, 5), (3, 3), op="ConvTranspose", dilations=[2, 1], strides=[1, 2]),
    conv(1, 3, 4, (5, 5), (3, 3), op="ConvTranspose", strides=[3, 2], output_shape=[13, 10]),
    conv(1, 3, 4, (5, 5), (3, 3), op="ConvTranspose", strides=[3, 2], auto_pad="SAME_UPPER"),
    conv(1, 3, 4, (5, 5), (3, 3), op="ConvTranspose", strides=[3, 2], auto_pad="SAME_LOWER"),
    conv(1, 3, 4, (5, 5), (3, 3), op="ConvTranspose", strides=[3, 2], auto_pad="VALID"),
    conv(1, 3, 4, (9,), (3,), op="ConvTranspose", strides=[2]),
    conv(1, 3, 4, (2, 3, 4), (3, 2, 2), op="ConvTranspose", strides=[2, 1, 2]),
    conv(1, 5, 5, (4, 5), (3, 3), op="ConvTranspose", group=5, strides=[2, 2], pads=[1, 1, 1, 1]),
]  # fmt: skip
CASES += [
    conv(2, 4, 6, (7, 8), (3, 3), op=op, group=2, strides=[2, 1], pads=[1, 0, 1, 1], dilations=[1, 2], opset=opset)
    for op in ("Conv", "ConvTranspose")
    for opset in (7, 22)
]
