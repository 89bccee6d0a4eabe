"""How well a network on a CPU predicts whole windows: each thread reads windows of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from stentor.model.labels import IGNORED_LABEL
from stentor.runtime.network import CachedNetwork

_TOKENS_AT_ONCE = 64


def score_windows(
    networks: Sequence[CachedNetwork], inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return -ln p of targets [B, T], 0 where they are ignored; see `measure.Scorer`.

    Args:
        networks: one for each thread.
        inputs_BT: token ids.
        targets_BT: token ids, or `IGNORED_LABEL`.
    """
    nats_BT, idle = np.zeros(targets_BT.shape), SimpleQueue[CachedNetwork]()
    for network in networks:
        idle.put(network)

    def score(row: int) -> None:
        network = idle.get()
        try:
            _score_row(network, inputs_BT[row], targets_BT[row], nats_BT[row])
        finally:
            idle.put(network)

    pool = ThreadPoolExecutor(len(networks))
    try:
        list(pool.map(score, range(len(inputs_BT))))
    finally:  # whoever is interrupted waits for the windows that are being read, and for no more
        pool.shutdown(cancel_futures=True)
    return nats_BT


def _score_row(
    network: CachedNetwork,
    inputs_T: NDArray[np.integer],
    targets_T: NDArray[np.integer],
    nats_T: NDArray[np.float64],
) -> None:
    """Fill in -ln p of the targets of one window that are not ignored."""
    count = int((targets_T != IGNORED_LABEL).sum())
    for start in range(0, count, _TOKENS_AT_ONCE):
        end = min(start + _TOKENS_AT_ONCE, count)
        logits_KV = network.extend(inputs_T[start:end].tolist(), start, all_scored=True)
        nats_T[start:end] = target_nats(logits_KV, targets_T[start:end])


def target_nats(logits_KV: NDArray[np.float32], targets_K: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return -ln p of a token after each of some others [K]; the logits are used up."""
    chosen_K = logits_KV[np.arange(len(targets_K)), targets_K].astype(np.float64)
    highest_K = logits_KV.max(axis=1)
    np.subtract(logits_KV, highest_K[:, None], out=logits_KV)
    np.exp(logits_KV, out=logits_KV)
    return np.log(logits_KV.sum(axis=1, dtype=np.float64)) + highest_K - chosen_K
