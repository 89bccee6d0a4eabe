"""Any causal language model of transformers as a network of ours; torch and transformers are imported only here."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError, missing_extra
from stentor.model.config import MAX_CONTEXT_LENGTH, ModelConfig
from stentor.runtime.network import require_readable

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

    Unlike on the CPU's own engine, logits depend in their last bits on how many tokens are read at once. So a text at
    temperature 0 could differ from one without a draft where two tokens are equally likely but for rounding.

    Args:
        model: with its weights, on its device.
        num_sequences: that it can remember.

    Attributes:
        config: the vocabulary and the context are the model's; it need not be a `llama`, and no other size is meant.
    """

    def __init__(self, model: PreTrainedModel, *, num_sequences: int = 1) -> None:
        self._model = model
        context_length = getattr(model.config, "max_position_embeddings", None) or MAX_CONTEXT_LENGTH
        self.config = ModelConfig(
            vocab_size=model.config.vocab_size, max_position_embeddings=min(context_length, MAX_CONTEXT_LENGTH)
        )
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._caches: list[Any] = [DynamicCache() for _ in range(num_sequences)]

    def extend(
        self, token_ids: Sequence[int], start: int, *, all_scored: bool = False, sequence: int = 0
    ) -> NDArray[np.float32]:
        """Read tokens of a sequence and return the logits after each [K, V] or the last [1, V]; see `CachedNetwork`."""
        require_readable(self.config, token_ids, start, start + len(token_ids) - 1)
        cache = self._caches[sequence]
        if start < (length := cache.get_seq_length()):
            cache.crop(start - length)  # the sign that transformers 4 and 5 both take for "so many less"
        keep = {} if all_scored or not self._keeps_logits else {"logits_to_keep": 1}
        with torch.inference_mode():
            input_ids_BT = torch.tensor([list(token_ids)], device=self._model.device)
            made = self._model(input_ids=input_ids_BT, past_key_values=cache, use_cache=True, **keep)
            logits_KV = made.logits[0] if all_scored else made.logits[0, -1:]
            return logits_KV.float().cpu().numpy()

    def extend_each(
        self, token_ids: Sequence[int], positions: Sequence[int], sequences: Sequence[int]
    ) -> NDArray[np.float32]:
        """Read a token of each of some sequences, and return the logits after each [K, V]; see `CachedNetwork`."""
        each = zip(token_ids, positions, sequences, strict=True)
        return np.concatenate([self.extend([token], position, sequence=sequence) for token, position, sequence in each])

    def share(self, length: int) -> None:
        """Let all sequences begin as the first one does; see `CachedNetwork`."""
        first = self._caches[0]
        if more := first.get_seq_length() - length:
            first.crop(-more)
        self._caches[1:] = [copy.deepcopy(first) for _ in self._caches[1:]]

    def fresh(self, num_sequences: int = 1) -> TransformersNetwork:
        """Return a network of the same weights that has read nothing; see `CachedNetwork`."""
        return TransformersNetwork(self._model, num_sequences=num_sequences)

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p of targets; see `measure.Scorer`."""
        device = self._model.device
        with torch.inference_mode():
            inputs, targets = torch.from_numpy(inputs_BT).to(device), torch.from_numpy(targets_BT).to(device)
            log_probs_BTV = self._model(input_ids=inputs.long(), use_cache=False).logits.float().log_softmax(-1)
            return -log_probs_BTV.gather(-1, targets.long().clamp(min=0)[..., None])[..., 0].double().cpu().numpy()

    def can_take_back(self) -> bool:
        """Tell whether tokens can be taken back: not from a state, or a window, that is all that is kept of them."""
        tried = self.fresh()
        try:
            tried.extend([1, 2, 3, 4], 0)
            again_V = tried.extend([2, 5], 1)[0]
            if tried._caches[0].get_seq_length() != 3:  # a model that takes no such cache leaves it empty
                return False
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
            return False
        anew_V = self.fresh().extend([1, 2, 5], 0)[0]
        return bool(np.abs(again_V - anew_V).max() <= ROLLBACK_TOLERANCE * np.ptp(anew_V))


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
    if not network.can_take_back():
        raise UserError(
            f"{path_or_id} cannot take tokens back: its cache is no plain one of keys and values",
            fix="use a model whose layers attend to the whole text",
        )
    return network
