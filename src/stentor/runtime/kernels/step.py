"""One pass of the network over some tokens, whole, in one compiled function that every thread runs.

The work of a layer is cut into parts: each has some of the key/value heads with their queries, and as much of the MLP.
A part ends in a sum that is added to the stream together with the others', always in the same order, so the result
is the same whatever the number of threads, and they meet twice a layer only. Tokens may be those of a prompt, one, or
one of each of several sequences: a token's result depends on its own sequence alone.

Shapes are those of `records`.
"""

from __future__ import annotations

import numpy as np

from stentor.runtime.compiled import Float, Int, inlined, kernel
from stentor.runtime.kernels.attention import (
    attend_bytes,
    attend_floats,
    store_key_bytes,
    store_key_floats,
    store_value_bytes,
    store_value_floats,
)
from stentor.runtime.kernels.attention_tiles import TOKENS, attend_four
from stentor.runtime.kernels.products import (
    BYTES,
    FLOATS,
    HEAD,
    NIBBLES,
    multiply_nibbles,
    quantize,
    sum_blocks,
    sum_of_squares,
)
from stentor.runtime.kernels.records import Cache, Network, Room, Tokens
from stentor.runtime.kernels.threads import meet, next_job, post
from stentor.runtime.kernels.tiles import multiply_many_bytes, multiply_many_floats, padded
from stentor.runtime.kernels.vector import (
    exponential,
    floats,
    load_floats,
    load_long,
    multiply_add,
    store_floats,
    store_long,
)

QKV, OUT, GATE_UP, DOWN = range(4)
"""Kinds of matrices of a part, in the order of `Network.places`."""
_ONE = np.float32(1)


@kernel
def run_pass(
    network: Network, cache: Cache, room: Room, tokens: Tokens, thread: Int, num_threads: Int, meeting: Int
) -> int:
    """Run one thread's share of a pass; returns the number of the last meeting.

    Args:
        network: weights and sizes.
        cache: receives the tokens' keys and values.
        room: what is written to on the way, and the logits.
        tokens: what is read.
        thread: which one this is, from 0.
        num_threads: how many run this pass.
        meeting: the number of the last meeting of the pass before.
    """
    row_bytes = 4 * network.hidden_size
    for token in range(tokens.num_tokens):
        _copy(
            network.embedding + load_long(tokens.ids + 8 * token) * row_bytes,
            room.stream + token * row_bytes,
            row_bytes,
        )
    for layer in range(network.num_layers):
        _normalize(network, room, tokens.num_tokens, 2 * layer)
        for part in range(thread, network.num_parts, num_threads):
            _attention(network, cache, room, tokens, layer, part)
        meeting += 1
        meet(room.arrivals, thread, num_threads, meeting)
        _add_parts(network, room, tokens.num_tokens, 0)
        _normalize(network, room, tokens.num_tokens, 2 * layer + 1)
        for part in range(thread, network.num_parts, num_threads):
            _mlp(network, room, tokens.num_tokens, layer, part)
        meeting += 1
        meet(room.arrivals, thread, num_threads, meeting)
        _add_parts(network, room, tokens.num_tokens, 1)
    _normalize(network, room, tokens.num_tokens, 2 * network.num_layers)
    for part in range(thread, network.num_parts, num_threads):
        _head(network, room, tokens, part)
    meeting += 1
    meet(room.arrivals, thread, num_threads, meeting)
    return meeting


@kernel
def post_pass(mailbox: Int, job: Int, num_threads: Int, count: Int, first_scored: Int, meeting: Int) -> int:
    """Ask the workers for their share of a pass; returns which of them sleep, a bit for each thread."""
    store_long(mailbox + 8, count)
    store_long(mailbox + 16, first_scored)
    store_long(mailbox + 24, meeting)
    return post(mailbox, job, num_threads)


@kernel
def serve(
    network: Network, cache: Cache, room: Room, tokens: Tokens, mailbox: Int, thread: Int, num_threads: Int, job: Int,
    patience: Int,
) -> int:  # fmt: skip
    """Run a worker's share of every pass that is posted; returns the last one's number when none has come for long.

    Args:
        network: as in `run_pass`.
        cache: as there.
        room: this thread's.
        tokens: as there, but for their number, which is in the mailbox.
        mailbox: see `threads.post`; a negative job ends all work.
        thread: which one this is, from 1.
        num_threads: how many run a pass.
        job: the last one that is done.
        patience: how often to look for the next.
    """
    while True:
        found = next_job(mailbox, thread, job, patience)
        if found == job or found < 0:
            return found
        job = found
        given = Tokens(tokens.ids, tokens.sequences, tokens.positions, load_long(mailbox + 8), load_long(mailbox + 16))
        run_pass(network, cache, room, given, thread, num_threads, load_long(mailbox + 24))


@inlined
def _copy(source: Int, to: Int, num_bytes: Int) -> None:
    for place in range(0, num_bytes, 64):
        store_floats(to + place, load_floats(source + place))


@inlined
def _normalize(network: Network, room: Room, num_tokens: Int, norm: Int) -> None:
    """Make of the stream what products see: divided by its root mean square, times the gains of a norm."""
    width = network.hidden_size
    gains = network.gains + 4 * width * norm
    for token in range(num_tokens):
        x, to = room.stream + 4 * width * token, room.given + room.given_stride * token
        mean = sum_of_squares(x, width) / np.float32(network.true_hidden_size)
        by = floats(_ONE / np.sqrt(np.float32(mean + network.eps)))
        for place in range(0, 4 * width, 64):
            store_floats(to + HEAD + place, load_floats(x + place) * by * load_floats(gains + place))
        if network.weights != FLOATS:  # bytes take the place of floats that have been read
            _quantize(network, to + HEAD, width, to)


@inlined
def _give(network: Network, values: Int, count: Int, to: Int) -> None:
    """Write float32 as products see them."""
    if network.weights == FLOATS:
        _copy(values, to + HEAD, 4 * count)
    else:
        _quantize(network, values, count, to)


@inlined
def _quantize(network: Network, values: Int, count: Int, to: Int) -> None:
    """Write float32 as products of whole numbers see them."""
    quantize(values, count, to)
    if network.weights == NIBBLES:
        sum_blocks(to, count)


@inlined
def _multiply(
    network: Network, weights: Int, places: Int, rows: Int, columns: Int, data: Int, stride: Int, num_tokens: Int,
    out: Int, out_stride: Int,
) -> None:  # fmt: skip
    """Multiply the matrix of which `places` is the address in a table of them."""
    panels = network.panels + load_long(places)
    if weights == NIBBLES:
        multiply_nibbles(panels, rows, columns, data, stride, num_tokens, out, out_stride)
    elif weights == BYTES:
        scales = network.row_scales + 4 * load_long(places + 8)
        multiply_many_bytes(panels, scales, rows, columns, data, stride, num_tokens, out, out_stride)
    else:
        multiply_many_floats(panels, rows, columns, data, stride, num_tokens, out, out_stride)


@inlined
def _places(network: Network, layer: Int, part: Int, kind: Int) -> int:
    return network.places + 16 * ((layer * network.num_parts + part) * 4 + kind)


@inlined
def _partial(network: Network, room: Room, num_tokens: Int, half: Int, part: Int) -> int:
    """Return where a part's sum goes."""
    return room.partial + 4 * network.hidden_size * padded(num_tokens) * (half * network.num_parts + part)


@inlined
def _add_parts(network: Network, room: Room, num_tokens: Int, half: Int) -> None:
    """Add to the stream what all parts made, one after the other."""
    start, of_part = _partial(network, room, num_tokens, half, 0), 4 * network.hidden_size * padded(num_tokens)
    for place in range(0, 4 * network.hidden_size * num_tokens, 64):
        x = load_floats(room.stream + place)
        for part in range(network.num_parts):
            x = x + load_floats(start + of_part * part + place)
        store_floats(room.stream + place, x)


@inlined
def _attention(network: Network, cache: Cache, room: Room, tokens: Tokens, layer: Int, part: Int) -> None:
    """Make one part's share of a layer's attention: its heads' queries, keys and values, and their output."""
    width, num_heads = network.head_dim, network.num_heads
    rows, columns = (num_heads + 2 * network.num_key_heads) * width, num_heads * width
    rows = (rows + 63) // 64 * 64
    _multiply(
        network, network.weights, _places(network, layer, part, QKV), rows, network.hidden_size, room.given,
        room.given_stride, tokens.num_tokens, room.made, room.made_stride,
    )  # fmt: skip
    for token in range(tokens.num_tokens):
        _keep(network, cache, room, tokens, layer, part, token)
    for token in range(0, tokens.num_tokens, TOKENS):
        behind = min(token + TOKENS, tokens.num_tokens)
        if not network.has_byte_cache and _follow_one_another(tokens, token):
            for head in range(num_heads):
                _attend_four(network, cache, room, tokens, layer, part, token, head)
            behind = token
        for alone in range(token, behind):
            for head in range(num_heads):
                _attend(network, cache, room, tokens, layer, part, alone, head)
    for token in range(tokens.num_tokens):
        out = room.made + room.made_stride * token
        _give(network, out, columns, room.inner + room.inner_stride * token)
    _multiply(
        network, network.weights, _places(network, layer, part, OUT), network.hidden_size, columns, room.inner,
        room.inner_stride, tokens.num_tokens, _partial(network, room, tokens.num_tokens, 0, part),
        4 * network.hidden_size,
    )  # fmt: skip


@inlined
def _keep(network: Network, cache: Cache, room: Room, tokens: Tokens, layer: Int, part: Int, token: Int) -> None:
    """Turn a token's queries and keys to its position, and write keys and values to the cache."""
    head_bytes, position = 4 * network.head_dim, load_long(tokens.positions + 8 * token)
    vectors = room.made + room.made_stride * token
    gains = network.head_gains + layer * 2 * head_bytes
    for head in range(network.num_heads):
        factor = _ONE / np.sqrt(np.float32(network.true_head_dim))
        _turn(network, vectors + head_bytes * head, gains, position, factor)
    for head in range(network.num_key_heads):
        key = vectors + head_bytes * (network.num_heads + head)
        value = key + head_bytes * network.num_key_heads
        _turn(network, key, gains + head_bytes, position, _ONE)
        place = _head_place(network, load_long(tokens.sequences + 8 * token), layer, part, head)
        keys, values = cache.keys + cache.head_bytes * place, cache.values + cache.head_bytes * place
        if network.has_byte_cache:
            scales = 4 * cache.capacity * place
            store_key_bytes(key, network.head_dim, position, keys, cache.key_scales + scales, room.scratch)
            store_value_bytes(
                value, network.head_dim, position, cache.capacity, values, cache.value_scales + scales, room.scratch
            )
        else:
            store_key_floats(key, network.head_dim, position, keys)
            store_value_floats(value, network.head_dim, position, values)


@inlined
def _head_place(network: Network, sequence: Int, layer: Int, part: Int, head: Int) -> int:
    """Return the number of a key/value head in a cache."""
    return ((sequence * network.num_layers + layer) * network.num_parts + part) * network.num_key_heads + head


@inlined
def _turn(network: Network, vector: Int, gains: Int, position: Int, factor: Float) -> None:
    """Normalise a head where the network does, rotate it (RoPE), and multiply it with a factor."""
    half = 2 * network.head_dim
    if network.has_head_norms:
        mean = sum_of_squares(vector, network.head_dim) / np.float32(network.true_head_dim)
        factor = factor / np.sqrt(np.float32(mean + network.eps))
    by, minus = floats(factor), floats(-factor)
    cosines = network.rotary + position * 2 * half
    for place in range(0, half, 64):
        a, b = load_floats(vector + place), load_floats(vector + half + place)
        if network.has_head_norms:
            a, b = a * load_floats(gains + place), b * load_floats(gains + half + place)
        cosine, sine = load_floats(cosines + place), load_floats(cosines + half + place)
        store_floats(vector + place, multiply_add(b * sine, minus, a * cosine * by))
        store_floats(vector + half + place, multiply_add(a * sine, by, b * cosine * by))


@inlined
def _follow_one_another(tokens: Tokens, token: Int) -> bool:
    """Whether this token and the next three are of one sequence, in its order."""
    if token + TOKENS > tokens.num_tokens:
        return False
    for next_one in range(token + 1, token + TOKENS):
        if load_long(tokens.sequences + 8 * next_one) != load_long(tokens.sequences + 8 * token):
            return False
        if load_long(tokens.positions + 8 * next_one) != load_long(tokens.positions + 8 * token) + next_one - token:
            return False
    return True


@inlined
def _attend_four(
    network: Network, cache: Cache, room: Room, tokens: Tokens, layer: Int, part: Int, token: Int, head: Int
) -> None:
    """Replace the queries of four tokens by what they attend to."""
    key_head = head // (network.num_heads // network.num_key_heads)
    place = _head_place(network, load_long(tokens.sequences + 8 * token), layer, part, key_head)
    query = room.made + room.made_stride * token + 4 * network.head_dim * head
    attend_four(
        query, room.made_stride, network.head_dim, load_long(tokens.positions + 8 * token) + 1, cache.capacity,
        cache.keys + cache.head_bytes * place, cache.values + cache.head_bytes * place, room.scores,
    )  # fmt: skip


@inlined
def _attend(
    network: Network, cache: Cache, room: Room, tokens: Tokens, layer: Int, part: Int, token: Int, head: Int
) -> None:
    """Replace a query by what it attends to."""
    width, length = network.head_dim, load_long(tokens.positions + 8 * token) + 1
    key_head = head // (network.num_heads // network.num_key_heads)
    place = _head_place(network, load_long(tokens.sequences + 8 * token), layer, part, key_head)
    keys, values = cache.keys + cache.head_bytes * place, cache.values + cache.head_bytes * place
    query = room.made + room.made_stride * token + 4 * width * head
    if network.has_byte_cache:
        scales = 4 * cache.capacity * place
        attend_bytes(
            query, width, length, cache.capacity, keys, cache.key_scales + scales, values,
            cache.value_scales + scales, room.scratch, room.scores, query,
        )  # fmt: skip
    else:
        attend_floats(query, width, length, keys, values, room.scores, query)


@inlined
def _mlp(network: Network, room: Room, num_tokens: Int, layer: Int, part: Int) -> None:
    """Make one part's share of a layer's MLP."""
    inner = network.inner_size
    _multiply(
        network, network.weights, _places(network, layer, part, GATE_UP), 2 * inner, network.hidden_size, room.given,
        room.given_stride, num_tokens, room.made, room.made_stride,
    )  # fmt: skip
    for token in range(num_tokens):
        gate = room.made + room.made_stride * token
        for place in range(0, 4 * inner, 64):
            x = load_floats(gate + place)
            minus = floats(np.float32(0)) - x
            up = load_floats(gate + 4 * inner + place)
            store_floats(gate + place, x * up / (floats(_ONE) + exponential(minus)))
        _give(network, gate, inner, room.inner + room.inner_stride * token)
    _multiply(
        network, network.weights, _places(network, layer, part, DOWN), network.hidden_size, inner, room.inner,
        room.inner_stride, num_tokens, _partial(network, room, num_tokens, 1, part), 4 * network.hidden_size,
    )  # fmt: skip


@inlined
def _head(network: Network, room: Room, tokens: Tokens, part: Int) -> None:
    """Make one part's share of the logits."""
    places, first = network.head_places + 32 * part, tokens.first_scored
    _multiply(
        network, network.head_weights, places, load_long(places + 24), network.hidden_size,
        room.given + room.given_stride * first, room.given_stride, tokens.num_tokens - first,
        room.logits + 4 * load_long(places + 16), 4 * network.vocab_size,
    )  # fmt: skip
