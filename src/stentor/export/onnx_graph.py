"""A model as one ONNX graph: tokens that are new and keys and values of those before them, if any, become logits.

Every operation is one of ONNX's own, so that any runtime opens it. Names and shapes of inputs and outputs are those
that transformers.js and Optimum agree on.

Shapes: B batch, T new tokens, P tokens before them, S = P + T, D hidden, N query heads, K key/value heads, G = N / K, H
head dim, F feed-forward, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

from stentor.model.config import ModelConfig
from stentor.model.names import EMBEDDING, FINAL_NORM, HEAD
from stentor.runtime.onnx_network import past_names
from stentor.version import __version__

OPSET, IR_VERSION = 18, 9
"""Old enough for every onnxruntime of the last years, in browsers as well."""
HEAD_INPUT = "head_DV"
INPUTS = ("input_ids", "attention_mask", "position_ids")
_MASKED = float(np.finfo(np.float32).min)
"""Added where attention may not look: finite, since a row that may look nowhere (padding) must not become NaN."""

Arrays = Mapping[str, NDArray[np.float32]]


def build_onnx(config: ModelConfig, arrays: Arrays) -> ModelProto:
    """Return the graph with its weights, in float32.

    Args:
        config: the model's sizes.
        arrays: its weights under Hugging Face's names; a tied head is stored once, as the embedding.
    """
    graph, groups = _Graph(), config.num_attention_heads // config.num_key_value_heads
    x_BTD = graph.add("Gather", graph.constant(EMBEDDING, arrays[EMBEDDING]), "input_ids")
    bias, rotary = _attention_bias(graph, groups), _rotary(graph, config)
    for layer in range(config.num_hidden_layers):
        part = _Layer(graph, config, arrays, layer)
        x_BTD = graph.add("Add", x_BTD, part.attention(x_BTD, bias, rotary))
        x_BTD = graph.add("Add", x_BTD, part.mlp(x_BTD))
    x_BTD = graph.rms_norm(x_BTD, FINAL_NORM, arrays, config.rms_norm_eps)
    if config.tie_word_embeddings:
        head_DV = graph.add("Transpose", EMBEDDING, name=HEAD_INPUT, perm=[1, 0])
    else:
        head_DV = graph.constant(HEAD_INPUT, arrays[HEAD].T)
    graph.add("MatMul", x_BTD, head_DV, name="logits")
    return graph.model(*_signature(config))


def _signature(config: ModelConfig) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Return the inputs and the outputs; lengths in names may be any, `past` zero as well."""
    tokens, past, total = "sequence_length", "past_sequence_length", "total_sequence_length"
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", length])
        for name, length in zip(INPUTS, (tokens, total, tokens), strict=True)
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", tokens, config.vocab_size])]
    for name in past_names(config):
        for made, given, length in ((inputs, name, past), (outputs, _present(name), total)):
            shape = ["batch_size", config.num_key_value_heads, length, config.head_dim]
            made.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, shape))
    return inputs, outputs


def _present(past_name: str) -> str:
    return past_name.replace("past_key_values", "present")


class _Graph:
    """Nodes and constants, in the order in which they are added; a node is known by the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def add(self, operation: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node of one output, and return that output's name."""
        output = name or f"{operation}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operation, inputs, [output], name=output, **attributes))
        return output

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """Cut the last dimension into pieces."""
        outputs = [f"Split_{len(self._nodes)}_{index}" for index in range(len(sizes))]
        self._nodes.append(helper.make_node("Split", [value, self.whole(sizes)], outputs, name=outputs[0], axis=-1))
        return outputs

    def constant(self, name: str, array: NDArray) -> str:
        """Store an array under a name."""
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def whole(self, values: int | Sequence[int]) -> str:
        """Store whole numbers, those of the same value once."""
        return self.constant(f"int64 {values}", np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """Store a number, those of the same value once."""
        return self.constant(f"float32 {value}", np.array(value, dtype=np.float32))

    def rms_norm(self, x: str, weight: str, arrays: Arrays, eps: float) -> str:
        """Divide the last dimension by its root mean square; spelt in the way that onnxruntime makes one operation of.

        Reference: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization", arXiv 1910.07467.
        """
        mean = self.add("ReduceMean", self.add("Pow", x, self.number(2)), self.whole([-1]), keepdims=1)
        root = self.add("Sqrt", self.add("Add", mean, self.number(eps)))
        return self.add("Mul", self.add("Div", x, root), self.constant(weight, arrays[weight]))

    def model(self, inputs: list[ValueInfoProto], outputs: list[ValueInfoProto]) -> ModelProto:
        """Return all of it, checked."""
        graph = helper.make_graph(self._nodes, "stentor", inputs, outputs, list(self._constants.values()))
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="stentor",
            producer_version=__version__,
        )
        checker.check_model(model)
        return model


def _attention_bias(graph: _Graph, groups: int) -> str:
    """Return what every layer's scores [B, K, GT, S] get added: a token sees those up to itself that are no padding."""
    length_of = [graph.add("Shape", name, start=1, end=2) for name in ("attention_mask", "input_ids")]
    total, new = (graph.add("Squeeze", length) for length in length_of)
    zero, one = graph.whole(0), graph.whole(1)
    keys_S = graph.add("Range", zero, total, one)
    queries_T = graph.add("Range", graph.add("Sub", total, new), total, one)
    causal_TS = graph.add("LessOrEqual", keys_S, graph.add("Unsqueeze", queries_T, graph.whole([1])))
    real_BS = graph.add("Cast", "attention_mask", to=TensorProto.BOOL)
    seen_B1TS = graph.add("And", causal_TS, graph.add("Unsqueeze", real_BS, graph.whole([1, 2])))
    bias_B1TS = graph.add("Where", seen_B1TS, graph.number(0.0), graph.number(_MASKED))
    return graph.add("Concat", *[bias_B1TS] * groups, axis=2, name="attention_bias")


def _rotary(graph: _Graph, config: ModelConfig) -> tuple[str, str]:
    """Return cosines, and sines whose first half is negative, at each token's position [B, T, 1, H].

    Reference: Su et al. 2021, "RoFormer", arXiv 2104.09864; halves are turned, as Hugging Face's Llama does.
    """
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (1.0 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    angles = np.outer(np.arange(config.max_position_embeddings, dtype=np.float32), frequencies)
    at_each = []
    for name, table in (("rotary.cos", np.cos(angles)), ("rotary.sin", np.sin(angles))):
        rows = graph.add("Gather", graph.constant(name, table), "position_ids")
        at_each.append(graph.add("Unsqueeze", rows, graph.whole([2])))
    cos, sin = at_each
    return (
        graph.add("Concat", cos, cos, axis=-1, name="cos"),
        graph.add("Concat", graph.add("Neg", sin), sin, axis=-1, name="sin"),
    )


class _Layer:
    """One layer's two halves."""

    def __init__(self, graph: _Graph, config: ModelConfig, arrays: Arrays, index: int) -> None:
        self._graph = graph
        self._config = config
        self._arrays = arrays
        self._index = index
        self._prefix = f"model.layers.{index}."

    def attention(self, x_BTD: str, bias: str, rotary: tuple[str, str]) -> str:
        """Return what attention adds [B, T, D]; G query heads share one head of keys and values.

        Reference: Ainslie et al. 2023, "GQA", arXiv 2305.13245.
        """
        graph, config, head_dim = self._graph, self._config, self._config.head_dim
        counts = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        merged = self._linear(self._norm(x_BTD, "input_layernorm"), "self_attn", "q_proj", "k_proj", "v_proj")
        parts = graph.split(merged, [count * head_dim for count in counts])
        q, k, v = (self._reshape(part, 0, 0, count, head_dim) for part, count in zip(parts, counts, strict=True))
        if config.has_qk_norm:
            q, k = self._norm(q, "self_attn.q_norm"), self._norm(k, "self_attn.k_norm")
        q_BNTH = self._swapped(graph.add("Mul", self._turned(q, rotary), graph.number(head_dim**-0.5)))
        k_BKSH, v_BKSH = self._with_past(self._turned(k, rotary), "key"), self._with_past(v, "value")
        q_BKXH = self._reshape(q_BNTH, 0, config.num_key_value_heads, -1, head_dim)  # X: G heads of T tokens
        scores_BKXS = graph.add("MatMul", q_BKXH, graph.add("Transpose", k_BKSH, perm=[0, 1, 3, 2]))
        shares_BKXS = graph.add("Softmax", graph.add("Add", scores_BKXS, bias), axis=-1)
        out_BNTH = self._reshape(graph.add("MatMul", shares_BKXS, v_BKSH), 0, config.num_attention_heads, -1, head_dim)
        return self._linear(self._reshape(self._swapped(out_BNTH), 0, 0, -1), "self_attn", "o_proj")

    def mlp(self, x_BTD: str) -> str:
        """Return what the SwiGLU adds [B, T, D].

        Reference: Shazeer 2020, "GLU Variants Improve Transformer", arXiv 2002.05202.
        """
        graph = self._graph
        merged = self._linear(self._norm(x_BTD, "post_attention_layernorm"), "mlp", "gate_proj", "up_proj")
        gate, up = graph.split(merged, [self._config.intermediate_size] * 2)
        silu = graph.add("Mul", gate, graph.add("Sigmoid", gate))
        return self._linear(graph.add("Mul", silu, up), "mlp", "down_proj")

    def _norm(self, x: str, name: str) -> str:
        return self._graph.rms_norm(x, f"{self._prefix}{name}.weight", self._arrays, self._config.rms_norm_eps)

    def _linear(self, x: str, block: str, *names: str) -> str:
        """Multiply with matrices side by side, in one product."""
        weights = [self._arrays[f"{self._prefix}{block}.{name}.weight"].T for name in names]
        merged = self._graph.constant(
            f"{self._prefix}{block}.{'_'.join(names)}.weight", np.concatenate(weights, axis=1)
        )
        return self._graph.add("MatMul", x, merged)

    def _reshape(self, x: str, *shape: int) -> str:
        """Give other dimensions; 0 keeps one, -1 takes what is left."""
        return self._graph.add("Reshape", x, self._graph.whole(shape))

    def _swapped(self, x: str) -> str:
        """Exchange tokens and heads."""
        return self._graph.add("Transpose", x, perm=[0, 2, 1, 3])

    def _turned(self, x: str, rotary: tuple[str, str]) -> str:
        """Turn the halves of heads by the angles of their positions."""
        graph, (cos, sin) = self._graph, rotary
        first, second = graph.split(x, [self._config.head_dim // 2] * 2)
        swapped = graph.add("Concat", second, first, axis=-1)
        return graph.add("Add", graph.add("Mul", x, cos), graph.add("Mul", swapped, sin))

    def _with_past(self, new_BTKH: str, kind: str) -> str:
        """Put keys or values behind those of earlier tokens, and hand all of them out [B, K, S, H]."""
        past = f"past_key_values.{self._index}.{kind}"
        return self._graph.add("Concat", past, self._swapped(new_BTKH), axis=2, name=_present(past))
