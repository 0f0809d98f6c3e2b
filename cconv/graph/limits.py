"""Limits: how large a model may be before cconv refuses it, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes beyond which a model is refused; checked before the memory is taken.

    They stand far above the networks that cconv is made for. Raise one where a model that you trust needs
    more: `cconv.load(path, limits=Limits(nodes=10**6))`.

    Attributes:
        file_bytes: the ONNX file itself; protobuf can hold no more than 2 GiB.
        external_bytes: all tensors together that lie in files of their own.
        nodes: nodes of all graphs, subgraphs and functions together.
        depth: subgraphs within subgraphs.
        rank: axes of a tensor; NumPy has 64.
        tensor_elements: elements of one stored tensor.
        output_elements: elements of one node's output in a plan.
        arena_bytes: memory of one plan.
    """

    file_bytes: int = 2**31
    external_bytes: int = 2**34
    nodes: int = 100_000
    depth: int = 16
    rank: int = 64
    tensor_elements: int = 2**31
    output_elements: int = 2**32
    arena_bytes: int = 2**38


DEFAULT = Limits()
