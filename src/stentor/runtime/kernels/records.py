"""What a pass is told: records of plain integers, sizes and addresses of arrays that the caller holds.

Nothing is checked here, and no reference counted. Shapes: P parts, K tokens of a pass, S sequences, L layers, D hidden,
H head dim (as padded by `packing`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Network(NamedTuple):
    """A network as kernels see it.

    Attributes:
        num_layers: L.
        num_parts: P.
        hidden_size: D, padded to 64.
        true_hidden_size: over which squares are averaged.
        num_heads: query heads of a part.
        num_key_heads: key/value heads of a part.
        head_dim: H, each half padded to 16.
        true_head_dim: see above.
        inner_size: of a part's MLP, padded to 64.
        vocab_size: rows of the head, padded to 64 for each part.
        has_head_norms: whether queries and keys are normalised.
        is_bytes: whether weights are bytes with a scale for each row, or float32.
        has_byte_cache: whether keys and values are.
        eps: of the norms.
        embedding: float32 [V, D].
        panels: all weights.
        row_scales: float32, of all rows.
        places: int64 [L, P, 4, 2]: where a matrix begins in `panels`, in bytes, and its rows in `row_scales`.
        head_places: int64 [P, 4]: the same for a part's rows of the head; where they begin in the logits; how many.
        head_gains: float32 [L, 2, H].
        rotary: float32 [positions, 2, H / 2], cosines and sines.
    """

    num_layers: int
    num_parts: int
    hidden_size: int
    true_hidden_size: int
    num_heads: int
    num_key_heads: int
    head_dim: int
    true_head_dim: int
    inner_size: int
    vocab_size: int
    has_head_norms: bool
    is_bytes: bool
    has_byte_cache: bool
    eps: np.float32
    embedding: int
    panels: int
    row_scales: int
    places: int
    head_places: int
    head_gains: int
    rotary: int


class Cache(NamedTuple):
    """Keys and values of several sequences; `attention` says how those of a head lie.

    Attributes:
        capacity: positions of each sequence, a multiple of 16.
        head_bytes: of the keys of one head, and of its values.
        keys: [S, L, P, key heads of a part] heads.
        values: the same.
        key_scales: float32 [S, L, P, key heads of a part, positions].
        value_scales: the same.
    """

    capacity: int
    head_bytes: int
    keys: int
    values: int
    key_scales: int
    value_scales: int


class Room(NamedTuple):
    """What a pass writes to. Strides are bytes from one token to the next.

    Attributes:
        stream: float32 [K, D], the sum of all that layers added; a thread's own.
        given: activations of the stream as products see them; a thread's own.
        made: what products give; a thread's own.
        inner: activations within a part; a thread's own.
        scratch: room for attention's bytes; a thread's own.
        scores: float32 [4, positions]; a thread's own.
        partial: float32 [2, P, K, D], of all threads.
        logits: float32 [K, V], of all threads.
        arrivals: see `threads`.
        given_stride: of `given`.
        made_stride: of `made`.
        inner_stride: of `inner`.
    """

    stream: int
    given: int
    made: int
    inner: int
    scratch: int
    scores: int
    partial: int
    logits: int
    arrivals: int
    given_stride: int
    made_stride: int
    inner_stride: int


class Tokens(NamedTuple):
    """What a pass reads: addresses of int64 [K], how many there are, and from which on logits are wanted."""

    ids: int
    sequences: int
    positions: int
    num_tokens: int
    first_scored: int
