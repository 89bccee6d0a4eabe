"""Any causal language model of transformers as a network of ours; torch and transformers are imported only here."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError, missing_extra
from stentor.model.config import MAX_CONTEXT_LENGTH, ModelConfig

try:
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache
except ImportError:
    raise missing_extra("transformers", "hf", needed_for="a model of transformers") from None

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROLLBACK_TOLERANCE = 0.02
"""Of logits read again after a rollback, relative to their spread; bfloat16 has steps of 1/256."""


class TransformersNetwork:
    """A `CachedNetwork` over a model of transformers, whose cache is cropped when tokens are taken back.

    Logits depend in their last bits on how many tokens are read at once, as torch's products do. So a text at
    temperature 0 could differ from one without a draft where two tokens are equally likely but for rounding.

    Args:
        model: with its weights, on its device.

    Attributes:
        config: the vocabulary and the context are the model's; it need not be a `llama`, and no other size is meant.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        context_length = getattr(model.config, "max_position_embeddings", None) or MAX_CONTEXT_LENGTH
        self.config = ModelConfig(
            vocab_size=model.config.vocab_size, max_position_embeddings=min(context_length, MAX_CONTEXT_LENGTH)
        )
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._cache: Any = DynamicCache()

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens and return the logits after each [K, V] or the last [1, V]; see `CachedNetwork`."""
        assert sequence == 0
        if start < (length := self._cache.get_seq_length()):
            self._cache.crop(start - length)  # the sign that transformers 4 and 5 both take for "so many less"
        keep = {} if all_scored or not self._keeps_logits else {"logits_to_keep": 1}
        with torch.inference_mode():
            input_ids_BT = torch.tensor([list(token_ids)], device=self._model.device)
            made = self._model(input_ids=input_ids_BT, past_key_values=self._cache, use_cache=True, **keep)
            logits_KV = made.logits[0] if all_scored else made.logits[0, -1:]
            return logits_KV.float().cpu().numpy()

    def fresh(self, num_sequences: int = 1) -> TransformersNetwork:
        """Return a network of the same weights that has read nothing."""
        assert num_sequences == 1
        return TransformersNetwork(self._model)


def open_transformers(path_or_id: str | Path, *, device: str = "cpu") -> TransformersNetwork:
    """Open a folder or a Hub id with transformers.

    Raises:
        UserError: transformers opens no causal model there, or one whose cache cannot take tokens back.
    """
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(str(path_or_id), dtype="auto")
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"transformers opens no causal language model at {path_or_id}: {reason}", fix="check the name"
        ) from None
    network = TransformersNetwork(model.to(device).eval())
    require_rollback(network, where=str(path_or_id))
    return network


def require_rollback(network: TransformersNetwork, *, where: str) -> None:
    """Refuse a model that does not forget what is taken back: one with a state instead of keys and values.

    Raises:
        UserError: after a rollback its logits are not those of a fresh reading.
    """
    try:
        tried = network.fresh()
        tried.extend([1, 2, 3, 4], 0)
        again = tried.extend([2, 5], 1)
        remembers = tried._cache.get_seq_length() == 3  # a model that takes no such cache leaves it empty
        anew = network.fresh().extend([1, 2, 5], 0)
        agrees = remembers and np.abs(again - anew).max() <= ROLLBACK_TOLERANCE * np.ptp(anew)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        agrees = False
    if not agrees:
        raise UserError(
            f"{where} cannot take tokens back: its cache is no plain one of keys and values",
            fix="use a model whose layers all attend to the whole text",
        )
