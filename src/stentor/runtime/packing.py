"""Weights as the kernels read them: cut into parts, padded, rounded, laid out in panels.

A head keeps its two halves, each padded to 16, so that RoPE turns whole vectors; zeros that pad a matrix never reach a
result. Nothing is multiplied into a matrix: rounded, it has the whole numbers that it was trained with or that its file
holds. See `rounding` for these, `kernels.products` for panels and `kernels.step` for parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stentor.model.config import ModelConfig
from stentor.model.names import EMBEDDING, FINAL_NORM, HEAD
from stentor.model.quantized import Array, Quantized, as_float32
from stentor.runtime.kernels.products import BLOCK, BYTES, FLOATS, NIBBLES, PANEL_ROWS
from stentor.runtime.kernels.records import Network
from stentor.runtime.rounding import (
    Floats,
    byte_panels,
    float_panels,
    nibble_panels,
    rounded_blocks,
    rounded_rows,
)

MAX_PARTS = 4
"""More threads than this gain nothing on models that fit a cache."""
_ALIGNMENT, _LANES = 64, 16
_KINDS = {"float32": (FLOATS, FLOATS), "int8": (BYTES, BYTES), "int4": (NIBBLES, BYTES)}
"""How the weights of layers and of the head are stored."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A network for the kernels, and the arrays that its addresses point to."""

    network: Network
    arrays: tuple[NDArray, ...]


def pack(config: ModelConfig, tensors: Mapping[str, Array], *, dtype: str, has_byte_cache: bool) -> Packed:
    """Lay out a network.

    Args:
        config: its sizes.
        tensors: under Hugging Face's names. Blocks of Q4_0 stay what they are in `int4`, where parts do not cut them.
        dtype: of the weights, `float32`, `int8` or `int4`.
        has_byte_cache: keep keys and values as bytes.
    """
    weights, head_weights = _KINDS[dtype]
    shape, plain = _Shape.of(config), {name: as_float32(array) for name, array in tensors.items()}
    known = _known_scales(tensors) if weights == NIBBLES else None
    store = _Store()
    places = [
        [_add_matrices(store, weights, shape, config, plain, known, layer, part) for part in range(shape.parts)]
        for layer in range(config.num_hidden_layers)
    ]
    embedding = _padded(plain[EMBEDDING], columns=shape.hidden)
    head = _padded(plain[EMBEDDING if config.tie_word_embeddings else HEAD], rows=shape.vocab, columns=shape.hidden)
    rows = shape.vocab // shape.parts
    head_places = [
        [*store.add(head[part * rows :][:rows], head_weights), part * rows, rows] for part in range(shape.parts)
    ]
    panels, row_scales = store.arrays()
    arrays = (
        embedding, _gains(shape, config, plain), panels, row_scales, np.array(places, dtype=np.int64),
        np.array(head_places, dtype=np.int64), _head_gains(shape, config, plain), _rotary(shape, config),
    )  # fmt: skip
    network = Network(
        num_layers=config.num_hidden_layers,
        num_parts=shape.parts,
        hidden_size=shape.hidden,
        true_hidden_size=config.hidden_size,
        num_heads=config.num_attention_heads // shape.parts,
        num_key_heads=config.num_key_value_heads // shape.parts,
        head_dim=shape.head,
        true_head_dim=config.head_dim,
        inner_size=shape.inner,
        vocab_size=shape.vocab,
        has_head_norms=config.has_qk_norm,
        weights=weights,
        head_weights=head_weights,
        has_byte_cache=has_byte_cache,
        eps=np.float32(config.rms_norm_eps),
        **dict(zip(Network._fields[-len(arrays) :], (array.ctypes.data for array in arrays), strict=True)),
    )
    return Packed(network, arrays)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Padded sizes: of the stream, a head, a part's MLP, the vocabulary; and the number of parts."""

    parts: int
    hidden: int
    head: int
    inner: int
    vocab: int

    @classmethod
    def of(cls, config: ModelConfig) -> _Shape:
        parts = max(n for n in range(1, MAX_PARTS + 1) if config.num_key_value_heads % n == 0)
        return cls(
            parts=parts,
            hidden=_up(config.hidden_size, PANEL_ROWS),
            head=2 * _up(config.head_dim // 2, _LANES),
            inner=_up(-(-config.intermediate_size // parts), PANEL_ROWS),
            vocab=parts * _up(-(-config.vocab_size // parts), PANEL_ROWS),
        )


class _Store:
    """Collects matrices as panels, and where each begins."""

    def __init__(self) -> None:
        self._panels: list[NDArray[np.uint8]] = []
        self._scales: list[Floats] = []
        self._num_bytes = self._num_rows = 0

    def add(self, matrix_RC: Floats, weights: int, known_RC: Floats | None = None) -> tuple[int, int]:
        """Add a matrix of whole panels; returns its first byte and its first row.

        Args:
            matrix_RC: what is added.
            weights: how to store it, a kind of `kernels.products`.
            known_RC: for `rounded_blocks`.
        """
        place = self._num_bytes, self._num_rows
        if weights == NIBBLES:
            panels = nibble_panels(*rounded_blocks(matrix_RC, known_RC))
        elif weights == BYTES:
            whole_RC, scales_R = rounded_rows(matrix_RC)
            panels = byte_panels(whole_RC)
            self._scales.append(scales_R)
            self._num_rows += len(scales_R)
        else:
            panels = float_panels(matrix_RC)
        self._panels.append(panels)
        self._num_bytes += panels.size
        return place

    def arrays(self) -> tuple[NDArray[np.uint8], Floats]:
        """Return all panels, where a cache line begins, and all scales."""
        room = np.empty(self._num_bytes + _ALIGNMENT, dtype=np.uint8)
        panels = room[-room.ctypes.data % _ALIGNMENT :][: self._num_bytes]
        np.concatenate(self._panels, out=panels)
        return panels, np.concatenate([*self._scales, np.empty(0, dtype=np.float32)])


def _known_scales(tensors: Mapping[str, Array]) -> dict[str, Floats] | None:
    """Return the scale of each weight where a file has them in blocks like ours, else zeros; None where it has none."""
    if not any(isinstance(array, Quantized) and array.kind == "Q4_0" for array in tensors.values()):
        return None
    return {
        name: np.repeat(array.blocks["scale"].astype(np.float32), BLOCK, axis=-1)
        if isinstance(array, Quantized) and array.kind == "Q4_0"
        else np.broadcast_to(np.float32(0), array.shape)
        for name, array in tensors.items()
    }


def _add_matrices(
    store: _Store, weights: int, shape: _Shape, config: ModelConfig, plain: Mapping[str, Floats],
    known: Mapping[str, Floats] | None, layer: int, part: int,
) -> list[tuple[int, int]]:  # fmt: skip
    """Add the matrices of a part of a layer; returns their places."""
    matrices = _matrices(shape, config, plain, layer, part)
    scales = _matrices(shape, config, known, layer, part) if known else [None] * len(matrices)
    return [store.add(matrix, weights, known_RC) for matrix, known_RC in zip(matrices, scales, strict=True)]


def _matrices(
    shape: _Shape, config: ModelConfig, tensors: Mapping[str, Floats], layer: int, part: int
) -> tuple[Floats, ...]:
    """Return the matrices of a part of a layer, in the order that `step` numbers them.

    Weights are moved and padded by zeros, nothing else, so it does for their scales too.
    """

    def tensor(name: str) -> Floats:
        return tensors[f"model.layers.{layer}.{name}.weight"]

    def heads(name: str, count: int) -> Floats:
        rows = tensor(f"self_attn.{name}").reshape(-1, config.head_dim, config.hidden_size)
        chosen = rows[part * count :][:count]
        return _padded_heads(chosen, shape.head).reshape(count * shape.head, config.hidden_size)

    queries, keys = config.num_attention_heads // shape.parts, config.num_key_value_heads // shape.parts
    qkv = np.concatenate((heads("q_proj", queries), heads("k_proj", keys), heads("v_proj", keys)))
    columns = tensor("self_attn.o_proj").T.reshape(-1, config.head_dim, config.hidden_size)
    out = _padded_heads(columns[part * queries :][:queries], shape.head).reshape(-1, config.hidden_size).T
    inner = -(-config.intermediate_size // shape.parts)
    gate, up = (
        _padded(tensor(f"mlp.{name}")[part * inner :][:inner], rows=shape.inner) for name in ("gate_proj", "up_proj")
    )
    down = _padded(tensor("mlp.down_proj")[:, part * inner :][:, :inner], columns=shape.inner)
    return (
        _padded(qkv, rows=_up(len(qkv), PANEL_ROWS), columns=shape.hidden),
        _padded(out, rows=shape.hidden),
        _padded(np.concatenate((gate, up)), columns=shape.hidden),
        _padded(down, rows=shape.hidden),
    )


def _gains(shape: _Shape, config: ModelConfig, tensors: Mapping[str, Floats]) -> Floats:
    names = [
        f"model.layers.{layer}.{norm}.weight"
        for layer in range(config.num_hidden_layers)
        for norm in ("input_layernorm", "post_attention_layernorm")
    ]
    return _padded(np.stack([tensors[name] for name in (*names, FINAL_NORM)]), columns=shape.hidden)


def _head_gains(shape: _Shape, config: ModelConfig, tensors: Mapping[str, Floats]) -> Floats:
    gains = np.ones((config.num_hidden_layers, 2, config.head_dim), dtype=np.float32)
    for layer in range(config.num_hidden_layers if config.has_qk_norm else 0):
        for place, name in enumerate(("q_norm", "k_norm")):
            gains[layer, place] = tensors[f"model.layers.{layer}.self_attn.{name}.weight"]
    return np.ascontiguousarray(_padded_heads(gains[..., None], shape.head)[..., 0])


def _rotary(shape: _Shape, config: ModelConfig) -> Floats:
    """Return cosines and sines [positions, 2, H / 2] of RoPE, as `model.llama.rotary_tables` defines them."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = (np.float32(1) / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    angles = np.outer(np.arange(config.max_position_embeddings, dtype=np.float32), frequencies).astype(np.float32)
    table = np.zeros((len(angles), 2, shape.head // 2), dtype=np.float32)
    table[:, 0, : angles.shape[1]], table[:, 1, : angles.shape[1]] = np.cos(angles), np.sin(angles)
    return table


def _padded_heads(heads: Floats, width: int) -> Floats:
    """Pad the second dimension from the end [.., H, C], each half by itself."""
    *outer, head_dim, columns = heads.shape
    padded = np.zeros((*outer, 2, width // 2, columns), dtype=np.float32)
    padded[..., : head_dim // 2, :] = heads.reshape(*outer, 2, head_dim // 2, columns)
    return padded.reshape(*outer, width, columns)


def _padded(matrix: Floats, *, rows: int = 0, columns: int = 0) -> Floats:
    """Pad a matrix by zeros to at least so many rows and columns."""
    padded = np.zeros((max(rows, len(matrix)), max(columns, matrix.shape[1])), dtype=np.float32)
    padded[: len(matrix), : matrix.shape[1]] = matrix
    return padded


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
