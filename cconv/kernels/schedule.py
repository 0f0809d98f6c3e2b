"""Which algorithm computes which convolution.

The choice depends on the geometry alone, never on the number of threads, so that it cannot change a bit of a
result. An algorithm is a kernel module that offers

    packed_size(geometry, role), Pack(geometry, role)     weights in the order the algorithm reads them
    Gather(geometry, role, bias, residual, clamp)         role "forward" or "input_gradient"; .workspace elements

or, for the role "weight_gradient",

    WeightGradient(geometry)
"""

from __future__ import annotations

from cconv.kernels.geometry import ConvGeometry

PRECISIONS = ("fast", "direct")

# Winograd's multiplications save time from this many channels on either side and this size of the output on (the
# smaller of height and width); below, its transforms cost more than they save.
WINOGRAD_CHANNELS, WINOGRAD_SIZE = 32, 6

# Weights (channels x outputs) from which on it also saves time in the weight gradient. Direct / Winograd in ms, as
# below: 56x56x64 11.7 / 12.7, 28x28x128 12.3 / 8.7, 14x14x256 13.2 / 9.3, 7x7x512 14.7 / 8.0.
WINOGRAD_WEIGHTS = 96 * 96


def algorithm(geometry: ConvGeometry, role: str, precision: str = "fast") -> str:
    """Name of the kernel module that computes this pass of this geometry.

    Args:
        precision: "fast" also allows Winograd's algorithm, whose rms error is up to 4 times a direct float32
            convolution's; "direct" does not.
    """
    # A depthwise convolution has one input channel per output: as a matrix product it would use one row of
    # a tile; by channels it is bound by memory, as it should be.
    if geometry.depthwise:
        return "conv_depthwise"
    winograd = precision == "fast" and winograd_pays(geometry)
    if role == "weight_gradient":
        enough = geometry.channels * geometry.outputs >= WINOGRAD_WEIGHTS
        return "conv_winograd_weight" if winograd and enough else "conv_weight"
    return "conv_winograd" if winograd else "conv_direct"


def winograd_pays(g: ConvGeometry) -> bool:
    """Whether Winograd F(4x4, 3x3) can compute this geometry, and faster than the direct algorithm.

    Whole vectors of channels on every build: 16 is the widest. Time with the weights' transform, ResNet-18's layers,
    batch 16, AVX-512, 2 threads, direct / Winograd in ms: 56x56x64 10.6 / 3.6, 28x28x128 9.9 / 4.1, 14x14x256
    10.8 / 5.3, 7x7x512 12.9 / 6.4.
    """
    return (
        g.kernel == (1, 3, 3)
        and g.stride == g.dilation == (1, 1, 1)
        and g.groups == 1
        and g.input[0] == g.output[0] == 1
        and g.channels % 16 == g.outputs % 16 == 0
        and min(g.channels, g.outputs) >= WINOGRAD_CHANNELS
        and min(*g.input[1:], *g.output[1:]) >= WINOGRAD_SIZE
    )
