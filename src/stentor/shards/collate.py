"""Unpacked sequences of different lengths -> one padded batch, for fine-tuning and scoring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stentor.shards.pack import IGNORED_LABEL

LENGTH_MULTIPLE = 8
"""Padded lengths are multiples of this, which suits tensor cores."""


def collate(sequences: Sequence[Sequence[int]], *, pad_token_id: int) -> dict[str, NDArray[np.int64]]:
    """Pad sequences on the right to the longest of them, rounded up to a multiple of 8.

    Args:
        sequences: token ids of each.
        pad_token_id: fills `input_ids`.

    Returns:
        `input_ids`, `labels` (-100 on padding) and `attention_mask` (0 on padding), int64 [B, T] each.
    """
    longest = max(map(len, sequences), default=0)
    length = -(-longest // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    input_ids_BT = np.full((len(sequences), length), pad_token_id, dtype=np.int64)
    labels_BT = np.full_like(input_ids_BT, IGNORED_LABEL)
    attention_mask_BT = np.zeros_like(input_ids_BT)
    for row, ids in enumerate(sequences):
        input_ids_BT[row, : len(ids)] = labels_BT[row, : len(ids)] = ids
        attention_mask_BT[row, : len(ids)] = 1
    return {"input_ids": input_ids_BT, "labels": labels_BT, "attention_mask": attention_mask_BT}
