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


def algorithm(geometry: ConvGeometry, role: str) -> str:
    """Name of the kernel module that computes this pass of this geometry."""
    # A depthwise convolution has one input channel per output: as a matrix product it would use one row of
    # a tile; by channels it is bound by memory, as it should be.
    if geometry.depthwise:
        return "conv_depthwise"
    return "conv_weight" if role == "weight_gradient" else "conv_direct"
