"""An ONNX graph whose products are of bytes: onnxruntime's dynamic INT8, and what tiny models need around it.

Weights are rounded once, each column of a matrix with a scale of its own; activations as they come, with one scale for
all tokens that are read together. Three things keep that small and near the original:

- Each token's vector is divided by its own largest value before it is rounded, and the product multiplied back: one
  token's outliers then cost the others nothing, however long a prompt is.
- The embedding is bytes as well, each row with a scale of its own, and a tied one is stored once: as the bytes that the
  head multiplies with.
- Weights are unsigned bytes: products of unsigned with signed bytes may overflow on CPUs that have AVX2 and no VNNI,
  which would give other numbers there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from stentor.export.onnx_graph import HEAD_INPUT
from stentor.model.names import EMBEDDING

_ZERO_POINT = 128
_SMALLEST, _LAST, _ZERO = "smallest divisor", "last dimension", "zero point"


def quantize_onnx_int8(model_path: Path, out_path: Path) -> None:
    """Write the dynamic INT8 form of a graph of ours.

    Args:
        model_path: the graph in float32, as `onnx_graph.build_onnx` makes it.
        out_path: the file to make, in a staged folder.
    """
    model = onnx.load(str(model_path))
    is_tied = _untie(model.graph)
    _even_out_tokens(model.graph)
    add_pre_process_metadata(model)  # its advice to fold constants first is for graphs of tools
    quantize_dynamic(
        model,
        str(out_path),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QUInt8,
        extra_options={"WeightSymmetric": True},
    )
    model = onnx.load(str(out_path))
    table_name, scale_name = _tied_table(model.graph) if is_tied else _rounded_table(model.graph)
    _embed_bytes(model.graph, table_name, scale_name)
    onnx.save(model, str(out_path))


def _untie(graph: GraphProto) -> bool:
    """Give a tied head a matrix of its own, which the quantizer can see; return whether it was tied."""
    for node in graph.node:
        if node.op_type == "Transpose" and (embedding := _constant(graph, node.input[0])):
            _add_constant(graph, node.output[0], numpy_helper.to_array(embedding).T)
            graph.node.remove(node)
            return True
    return False


def _even_out_tokens(graph: GraphProto) -> None:
    """Divide what enters each product with weights by its largest value, token by token; multiply what leaves it."""
    _add_constant(graph, _SMALLEST, np.array(np.finfo(np.float32).tiny))
    _add_constant(graph, _LAST, np.array([-1], dtype=np.int64))
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type != "MatMul" or not _constant(graph, node.input[1]):
            nodes.append(node)
            continue
        x, made = node.input[0], node.output[0]
        size, largest, divisor, even, product = (
            f"{made}.{part}" for part in ("size", "largest", "divisor", "even", "product")
        )
        nodes += [
            helper.make_node("Abs", [x], [size]),
            helper.make_node("ReduceMax", [size, _LAST], [largest], keepdims=1),
            helper.make_node("Max", [largest, _SMALLEST], [divisor]),
            helper.make_node("Div", [x, divisor], [even]),
            helper.make_node("MatMul", [even, node.input[1]], [product], name=node.name),
            helper.make_node("Mul", [product, divisor], [made]),
        ]
    _replace(graph, nodes)


def _tied_table(graph: GraphProto) -> tuple[str, str]:
    """Store the head's bytes as rows [V, D], from which it gets its columns; return their name and their scales'."""
    bytes_DV = _constant(graph, f"{HEAD_INPUT}_quantized")
    assert bytes_DV is not None
    table_name = _add_constant(graph, f"{EMBEDDING}.bytes", numpy_helper.to_array(bytes_DV).T)
    graph.initializer.remove(bytes_DV)
    turned = helper.make_node("Transpose", [table_name], [bytes_DV.name], perm=[1, 0])
    _replace(graph, [turned, *graph.node])
    return table_name, f"{HEAD_INPUT}_scale"


def _rounded_table(graph: GraphProto) -> tuple[str, str]:
    """Store the embedding's rows as bytes [V, D]; return their name and their scales'."""
    embedding = _constant(graph, EMBEDDING)
    assert embedding is not None
    table_VD = numpy_helper.to_array(embedding)
    scale_V = np.maximum(np.abs(table_VD).max(axis=1) / (_ZERO_POINT - 1), np.finfo(np.float32).tiny)
    bytes_VD = (np.rint(table_VD / scale_V[:, None]) + _ZERO_POINT).astype(np.uint8)
    return (
        _add_constant(graph, f"{EMBEDDING}.bytes", bytes_VD),
        _add_constant(graph, f"{EMBEDDING}.scale", scale_V.astype(np.float32)),
    )


def _embed_bytes(graph: GraphProto, table_name: str, scale_name: str) -> None:
    """Turn a token's row of bytes back to numbers, in the place of the embedding in float32."""
    zero = _add_constant(graph, _ZERO, np.array(_ZERO_POINT, dtype=np.float32))
    gather = next(node for node in graph.node if EMBEDDING in node.input)
    rows = [
        helper.make_node("Gather", [table_name, gather.input[1]], ["row.bytes"]),
        helper.make_node("Cast", ["row.bytes"], ["row.numbers"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["row.numbers", zero], ["row.centred"]),
        helper.make_node("Gather", [scale_name, gather.input[1]], ["row.scale"]),
        helper.make_node("Unsqueeze", ["row.scale", _LAST], ["row.scales"]),
        helper.make_node("Mul", ["row.centred", "row.scales"], [gather.output[0]]),
    ]
    _replace(graph, [*rows, *(node for node in graph.node if node is not gather)])
    if left := _constant(graph, EMBEDDING):
        graph.initializer.remove(left)


def _add_constant(graph: GraphProto, name: str, array: NDArray) -> str:
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
    return name


def _constant(graph: GraphProto, name: str) -> TensorProto | None:
    return next((constant for constant in graph.initializer if constant.name == name), None)


def _replace(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)
