"""What a model must satisfy before cconv builds anything out of it.

The checks read the protobuf message alone: no memory is taken by what the message claims, and neither onnx's
checker nor its shape inference, which are C++ and have crashed on crafted models, is run. Checked are

    header      ir_version, opsets
    graphs      every value defined once and before its use, no cycles; subgraphs see the outer values
    nodes       domains imported, attributes named once and of a known type
    tensors     known dtype, and exactly as many bytes as shape and dtype take
    limits      sizes, see limits.py

What an attribute must be like for its operator is for the operators' shape rules, in cconv/ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from cconv.errors import UnsafeModelError, UnsupportedOpError, explain
from cconv.graph.external import ExternalFolder
from cconv.graph.limits import Limits

OLDEST_OPSET = 7
# Of other domains than ai.onnx: what fits where onnx keeps it.
NEWEST_OF_ANY = 2**31 - 1

# The field of a TensorProto that holds the values of a dtype where raw_data does not, and numbers a value.
_FIELDS = {
    "FLOAT": ("float_data", 1),
    "COMPLEX64": ("float_data", 2),
    "DOUBLE": ("double_data", 1),
    "COMPLEX128": ("double_data", 2),
    "INT64": ("int64_data", 1),
    "UINT32": ("uint64_data", 1),
    "UINT64": ("uint64_data", 1),
    "STRING": ("string_data", 1),
}
# The field of an AttributeProto that must be there for its type. A number or a text that is not counts as 0 or "".
_HOLDERS = {
    onnx.AttributeProto.TENSOR: "t",
    onnx.AttributeProto.GRAPH: "g",
    onnx.AttributeProto.TYPE_PROTO: "tp",
}
WITHOUT_DEVICES = "Clear the fields `configuration` of the model and `device_configurations` of its nodes."
_ALL_FIELDS = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data", "string_data")


def check_model(proto: onnx.ModelProto, limits: Limits, folder: ExternalFolder, place: str) -> None:
    """Refuse what cconv cannot vouch for.

    Args:
        place: what messages call the model: its file's name.

    Raises:
        UnsafeModelError: a rule is broken; the message names the node or tensor.
        UnsupportedOpError: an opset outside of those that cconv knows.
    """
    _Checker(limits, folder, place).model(proto)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes that the values of a checked tensor take (not for strings)."""
    return -(-_elements(tensor.dims) * ir.DataType(tensor.data_type).bitwidth // 8)


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a graph: initializers and attributes, those of subgraphs included."""
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def all_tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a model, functions included."""
    yield from tensors_of(proto.graph)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for graph in _subgraphs(attribute):
                yield from tensors_of(graph)


def _subgraphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _elements(dims: Sequence[int]) -> int:
    """The product, exact: Python's integers do not overflow. Zero wins over whatever else stands there."""
    count = 1
    for n in dims:
        count *= n
    return count


class _Checker:
    def __init__(self, limits: Limits, folder: ExternalFolder, place: str) -> None:
        self.limits = limits
        self.folder = folder
        self.place = place
        self.nodes_seen = 0
        self.external_bytes = 0

    def refuse(self, where: str, rule: str, found: str, fix: str = "") -> NoReturn:
        raise UnsafeModelError(explain(f"{self.place}: {where}" if where else self.place, rule, found, fix))

    # Header.

    def model(self, proto: onnx.ModelProto) -> None:
        if not 3 <= proto.ir_version <= onnx.IR_VERSION:
            self.refuse(
                "",
                f"its ir_version lies in 3..{onnx.IR_VERSION}, what the installed onnx knows",
                str(proto.ir_version),
                "Upgrade the package onnx, or export the model again."
                if proto.ir_version > onnx.IR_VERSION
                else "Export the model again.",
            )
        self.text(proto, "")
        if proto.training_info:
            self.refuse("", "has no training_info", f"{len(proto.training_info)}", "Remove it before.")
        if proto.configuration:
            self.refuse("", "runs on one device", f"{len(proto.configuration)} device configurations", WITHOUT_DEVICES)
        domains = self.opsets(proto.opset_import, self.place)
        if len({entry.key for entry in proto.metadata_props}) != len(proto.metadata_props):
            self.refuse("metadata_props", "each key stands once", "a key twice")
        functions = set()
        for function in proto.functions:
            identity = (function.domain, function.name, function.overload)
            if identity in functions:
                self.refuse(f"function {function.name!r}", "is defined once", "two of that name")
            functions.add(identity)
        self.graph(proto.graph, [], domains, 0)
        for function in proto.functions:
            where = f"function {function.name!r}"
            local = self.opsets(function.opset_import, where)
            scope: set[str] = set()
            self.define(function.input, scope, [], where)
            self.nodes(function.node, scope, [], local, 0, where)
            self.outputs(function.output, [scope], where)

    def text(self, message: Message, where: str) -> None:
        """Every string is UTF-8. Protobuf gives out others as bytes, and cannot write them back."""
        for field, found in message.ListFields():
            if field.type == field.TYPE_STRING:
                texts = [found] if isinstance(found, (str, bytes)) else found
                if any(isinstance(text, bytes) for text in texts):
                    self.refuse(where, "its text is UTF-8", f"{found!r} in {field.name}")
            elif field.type == field.TYPE_MESSAGE:
                for part in [found] if isinstance(found, Message) else found:
                    self.text(part, f"{where}.{field.name}".lstrip("."))

    def opsets(self, imports: Iterable[onnx.OperatorSetIdProto], where: str) -> set[str]:
        """The domains imported; ai.onnx, also spelt '', must be of a version that cconv and onnx know."""
        versions: dict[str, int] = {}
        for opset in imports:
            domain = _domain(opset.domain)
            if domain in versions:
                self.refuse("opset_import", "each domain stands once", f"{opset.domain!r} twice")
            if not 0 <= opset.version <= NEWEST_OF_ANY:
                found = f"{opset.version} of {opset.domain!r}"
                self.refuse("opset_import", f"versions lie in 0..{NEWEST_OF_ANY}", found)
            versions[domain] = opset.version
        newest = onnx.defs.onnx_opset_version()
        version = versions.get("")
        if version is not None and not OLDEST_OPSET <= version <= newest:
            raise UnsupportedOpError(
                explain(
                    where,
                    f"its opset lies in {OLDEST_OPSET}..{newest}",
                    f"opset {version}",
                    "Upgrade the package onnx, or export the model with an older opset."
                    if version > newest
                    else f"Export the model with opset {OLDEST_OPSET} or newer.",
                )
            )
        return set(versions)

    # Graphs.

    def graph(self, graph: onnx.GraphProto, outer: list[set[str]], domains: set[str], depth: int) -> None:
        where = f"graph {graph.name!r}"
        if depth > self.limits.depth:
            self.refuse(
                where,
                f"subgraphs nest at most {self.limits.depth} deep (Limits.depth)",
                f"depth {depth}",
                "Raise the limit if you trust the model.",
            )
        if graph.sparse_initializer:
            self.refuse(where, "its initializers are dense", "sparse ones", "Store them dense.")
        scope: set[str] = set()
        self.define([info.name for info in graph.input], scope, outer, f"{where}, inputs")
        inputs = set(scope)
        initializers = set()
        for tensor in graph.initializer:
            if tensor.name in initializers:
                self.refuse(f"initializer {tensor.name!r}", "is defined once", "two of that name")
            initializers.add(tensor.name)
            if tensor.name not in inputs:
                self.define([tensor.name], scope, outer, "initializers")
            self.tensor(tensor, f"initializer {tensor.name!r}")
        for info in (*graph.input, *graph.output, *graph.value_info):
            self.type(info.type, f"value {info.name!r}")
        self.nodes(graph.node, scope, outer, domains, depth, where)
        self.outputs([info.name for info in graph.output], [*outer, scope], where)

    def define(self, names: Iterable[str], scope: set[str], outer: list[set[str]], where: str) -> None:
        for name in names:
            if not name:
                self.refuse(where, "every value has a name", "one without")
            if name in scope or any(name in values for values in outer):
                self.refuse(where, "every value is defined once", f"{name!r} twice")
            scope.add(name)

    def outputs(self, names: Iterable[str], scopes: list[set[str]], where: str) -> None:
        seen = set()
        for name in names:
            if not any(name in values for values in scopes):
                self.refuse(f"{where}, output {name!r}", "every output is computed by a node", "nothing")
            if name in seen:
                self.refuse(f"{where}, output {name!r}", "every output stands once", "it twice")
            seen.add(name)

    def nodes(
        self,
        nodes: Sequence[onnx.NodeProto],
        scope: set[str],
        outer: list[set[str]],
        domains: set[str],
        depth: int,
        where: str,
    ) -> None:
        self.nodes_seen += len(nodes)
        if self.nodes_seen > self.limits.nodes:
            self.refuse(
                where,
                f"a model has at most {self.limits.nodes} nodes (Limits.nodes)",
                f"{self.nodes_seen} or more",
                "Raise the limit if you trust the model.",
            )
        for i, node in enumerate(nodes):
            spot = f"node {_name(node, i)!r} ({node.op_type})"
            if not node.op_type:
                self.refuse(spot, "names its operator", "none")
            if node.device_configurations:
                found = f"{len(node.device_configurations)} device configurations"
                self.refuse(spot, "runs on one device", found, WITHOUT_DEVICES)
            if _domain(node.domain) not in domains:
                self.refuse(spot, "its domain is among opset_import", f"{node.domain!r}", "Import the domain's opset.")
            for name in node.input:
                if name and name not in scope and not any(name in values for values in outer):
                    self.undefined(name, i, nodes, {*scope, *(v for values in outer for v in values)})
            if len({entry.key for entry in node.metadata_props}) != len(node.metadata_props):
                self.refuse(spot, "each key of its metadata_props stands once", "a key twice")
            names = set()
            for attribute in node.attribute:
                if attribute.name in names:
                    self.refuse(spot, "every attribute stands once", f"{attribute.name!r} twice")
                names.add(attribute.name)
                self.attribute(attribute, spot, [*outer, scope], domains, depth)
            self.define([name for name in node.output if name], scope, outer, spot)

    def undefined(self, name: str, i: int, nodes: Sequence[onnx.NodeProto], known: set[str]) -> NoReturn:
        """The error for a value that no earlier node computes: missing, out of order, or in a cycle."""
        spot = f"node {_name(nodes[i], i)!r} ({nodes[i].op_type})"
        makers = {output: k for k, node in enumerate(nodes) for output in node.output if output}
        if name not in makers:
            self.refuse(spot, "all of its inputs are defined", f"no value {name!r}")
        ready, rest = set(known), list(range(i, len(nodes)))
        while True:
            later = [k for k in rest if any(v and v not in ready and v in makers for v in nodes[k].input)]
            if len(later) == len(rest):
                break
            ready.update(output for k in set(rest) - set(later) for output in nodes[k].output)
            rest = later
        if rest:
            around = ", ".join(repr(_name(nodes[k], k)) for k in rest[:5])
            self.refuse(spot, "a graph has no cycles", f"one among the nodes {around}")
        self.refuse(
            spot,
            "nodes stand after those whose outputs they use",
            f"{name!r}, which node {_name(nodes[makers[name]], makers[name])!r} computes later",
            "Sort the graph: onnx_ir.passes.common.TopologicalSortPass.",
        )

    def attribute(
        self,
        attribute: onnx.AttributeProto,
        spot: str,
        scopes: list[set[str]],
        domains: set[str],
        depth: int,
    ) -> None:
        where = f"{spot}, attribute {attribute.name!r}"
        kinds = onnx.AttributeProto
        if attribute.type == kinds.UNDEFINED or attribute.type not in kinds.AttributeType.values():
            self.refuse(where, "has a type that ONNX knows", str(attribute.type))
        if attribute.type in (kinds.SPARSE_TENSOR, kinds.SPARSE_TENSORS):
            self.refuse(where, "its tensors are dense", "a sparse one", "Store it dense.")
        field = _HOLDERS.get(attribute.type)
        if field and not attribute.HasField(field) and not attribute.ref_attr_name:
            self.refuse(where, "has a value of its type", f"none in {field!r}")
        if attribute.ref_attr_name and attribute.type in (kinds.GRAPH, kinds.GRAPHS):
            self.refuse(where, "a subgraph stands for itself", f"one that stands for {attribute.ref_attr_name!r}")
        # What the type does not say is looked at as well: tensors_of finds it too.
        for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
            self.tensor(tensor, where)
        for kind in (*([attribute.tp] if attribute.HasField("tp") else []), *attribute.type_protos):
            self.type(kind, where)
        for graph in _subgraphs(attribute):
            self.graph(graph, scopes, domains, depth + 1)

    # Types and tensors.

    def type(self, kind: onnx.TypeProto, where: str) -> None:
        field = kind.WhichOneof("value")
        while field in ("sequence_type", "optional_type"):
            kind = getattr(kind, field).elem_type
            field = kind.WhichOneof("value")
        if field is None:
            return
        if field not in ("tensor_type", "sparse_tensor_type"):
            self.refuse(where, "is a tensor, or a sequence or option of tensors", field)
        tensor = getattr(kind, field)
        self.dtype(tensor.elem_type, where, undefined=True)
        if len(tensor.shape.dim) > self.limits.rank:
            self.refuse(where, f"has at most {self.limits.rank} axes", str(len(tensor.shape.dim)))
        for dim in tensor.shape.dim:
            if dim.dim_value < -1:  # -1 is how some exporters spell "any size"
                self.refuse(where, "its sizes are not negative", str(dim.dim_value))

    def dtype(self, number: int, where: str, undefined: bool = False) -> ir.DataType:
        try:
            dtype = ir.DataType(number)
        except ValueError:
            self.refuse(where, "has a dtype that ONNX knows", f"number {number}")
        if dtype == ir.DataType.UNDEFINED and not undefined:
            self.refuse(where, "has a dtype", "none")
        return dtype

    def tensor(self, tensor: onnx.TensorProto, where: str) -> None:
        if tensor.name and tensor.name not in where:
            where = f"{where}, tensor {tensor.name!r}"
        dtype = self.dtype(tensor.data_type, where)
        shape = tuple(tensor.dims)
        if len(shape) > self.limits.rank or any(n < 0 for n in shape):
            self.refuse(where, f"has at most {self.limits.rank} axes, of sizes >= 0", f"{shape}"[:200])
        elements = _elements(shape)
        # Where an axis is 0 the others count all the same: NumPy takes no array in which they are too long.
        if _elements([max(n, 1) for n in shape]) > self.limits.tensor_elements:
            self.refuse(
                where,
                f"a tensor has at most {self.limits.tensor_elements} elements (Limits.tensor_elements)",
                f"shape {shape}",
                "Raise the limit if you trust the model.",
            )
        if tensor.HasField("segment"):
            self.refuse(where, "is stored in one piece", "a segment")
        filled = [field for field in _ALL_FIELDS if len(getattr(tensor, field))]
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            if dtype == ir.DataType.STRING or filled or tensor.raw_data:
                self.refuse(where, "external data stands alone and is not text", "other data as well")
            self.external_bytes += tensor_bytes(tensor)
            if self.external_bytes > self.limits.external_bytes:
                self.refuse(
                    where,
                    f"external data has at most {self.limits.external_bytes} bytes (Limits.external_bytes)",
                    f"{self.external_bytes} or more",
                    "Raise the limit if you trust the model.",
                )
            self.folder.check(tensor, tensor_bytes(tensor), f"{self.place}: {where}")
            return
        if tensor.HasField("raw_data") and (tensor.raw_data or not filled):
            if filled or dtype == ir.DataType.STRING:
                self.refuse(where, "its values are stored once, and text not as bytes", "two forms of them")
            if len(tensor.raw_data) != tensor_bytes(tensor):
                self.refuse(
                    where,
                    f"shape {shape} of {dtype.name} takes {tensor_bytes(tensor)} bytes",
                    f"{len(tensor.raw_data)} bytes of data",
                )
            return
        field, per_value = _FIELDS.get(dtype.name, ("int32_data", 1))
        # Values of 2 and 4 bits are packed even here.
        packed = dtype != ir.DataType.STRING and dtype.bitwidth < 6
        wanted = tensor_bytes(tensor) if packed else elements * per_value
        if any(other != field for other in filled) or len(getattr(tensor, field)) != wanted:
            got = ", ".join(f"{len(getattr(tensor, name))} in {name}" for name in filled) or "none"
            self.refuse(where, f"shape {shape} of {dtype.name} takes {wanted} values in {field}", got)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _name(node: onnx.NodeProto, i: int) -> str:
    return node.name or f"{node.op_type}_{i}"
