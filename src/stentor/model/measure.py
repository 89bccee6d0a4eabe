"""How well a model predicts a stretch of token ids: nats per token and bits per byte, defined once for everyone.

Documents stand in file order with an EOS after each, and one before the first. Windows of the context length do
not overlap; each token is scored once; the nats of EOS are kept and its bytes are zero. Importing this file never
imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.labels import IGNORED_LABEL
from stentor.tokenizer.base import Losses

_EARLIER = "use an earlier checkpoint, or train again with a lower train.lr"
Progress = Callable[[int, int], None]


class Scorer(Protocol):
    """A network that says how well it predicts.

    Attributes:
        config: its sizes.
    """

    config: ModelConfig

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p(target) [B, T] of each target, given the inputs of its row up to its place.

        Args:
            inputs_BT: token ids, no more of them in a row than the context holds.
            targets_BT: token ids, or `IGNORED_LABEL` at the end of a row, where the answer does not matter.
        """
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's loss on a text.

    Attributes:
        loss_nats: mean per token, EOS counted.
        perplexity: exp(loss_nats); comparable only between models of one tokenizer.
        bits_per_byte: comparable between all models.
        num_tokens: scored tokens.
        num_bytes: UTF-8 bytes of the raw text, before tokenization.
        num_lossy_documents: documents that the tokenizer does not give back exactly; 0 for a byte-level BPE.
        num_lost_bytes: bytes of the raw text that no token covers, so that nothing predicts them.
    """

    loss_nats: float
    perplexity: float
    bits_per_byte: float
    num_tokens: int
    num_bytes: int
    num_lossy_documents: int = 0
    num_lost_bytes: int = 0

    @classmethod
    def from_total(
        cls, total_nats: float, *, num_tokens: int, num_bytes: int, losses: Losses | None = None
    ) -> Evaluation:
        """Derive all numbers from the summed loss.

        Raises:
            UserError: it is not a number.
        """
        if not math.isfinite(total_nats):
            raise UserError(
                f"the model's loss is {total_nats}: its weights have left the range of numbers", fix=_EARLIER
            )
        loss_nats = total_nats / num_tokens
        perplexity = math.exp(loss_nats) if loss_nats < 700 else math.inf
        lost = asdict(losses or Losses())
        return cls(loss_nats, perplexity, bits_per_byte(total_nats, num_bytes), num_tokens, num_bytes, **lost)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


def bits_per_byte(total_nats: float, num_bytes: int) -> float:
    """Convert summed cross-entropy to bits per UTF-8 byte, comparable across tokenizers.

    Args:
        total_nats: sum of -ln p(token) over the whole text, not the mean.
        num_bytes: bytes of that same text before tokenization; above 0.

    Raises:
        ValueError: the text is empty, so the ratio has no meaning.
    """
    if num_bytes <= 0:
        raise ValueError("bits_per_byte needs at least one byte of text")
    return total_nats / (math.log(2) * num_bytes)


def measure(
    network: Scorer,
    token_ids: np.ndarray,
    *,
    num_bytes: int,
    eos_token_id: int,
    losses: Losses | None = None,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score every token of a stream once.

    Args:
        network: what is measured.
        token_ids: ids of all documents [num_tokens], each document followed by EOS; memory-mapped or not.
        num_bytes: UTF-8 bytes of the documents' raw text.
        eos_token_id: stands before the first document.
        losses: what the ids do not give back of that text; None where they give back everything.
        batch_size: windows per forward pass; changes the speed only.
        on_progress: called with (tokens scored, tokens in all).

    Returns:
        The evaluation.

    Raises:
        UserError: the loss is not a number.
    """
    total_nats = summed_nats(
        network, token_ids, eos_token_id=eos_token_id, batch_size=batch_size, on_progress=on_progress
    )
    return Evaluation.from_total(total_nats, num_tokens=len(token_ids), num_bytes=num_bytes, losses=losses)


def summed_nats(
    network: Scorer,
    token_ids: np.ndarray,
    *,
    eos_token_id: int,
    batch_size: int = 16,
    on_progress: Progress | None = None,
) -> float:
    """Return the sum of -ln p of each token of a stream, added in float64; arguments as in `measure`."""
    total_nats, scored = 0.0, 0
    for nats in stream_nats(network, token_ids, eos_token_id=eos_token_id, batch_size=batch_size):
        total_nats += float(nats.sum())
        scored += len(nats)
        if on_progress:
            on_progress(scored, len(token_ids))
    return total_nats


def stream_nats(
    network: Scorer,
    token_ids: np.ndarray,
    *,
    eos_token_id: int,
    batch_size: int = 16,
) -> Iterator[np.ndarray]:
    """Yield -ln p of each token of a stream in order, float64, some windows at a time; arguments as in `measure`."""
    for inputs_BT, targets_BT in windows(token_ids, network.config.max_position_embeddings, eos_token_id, batch_size):
        nats_BT = network.window_nats(inputs_BT, targets_BT)
        yield nats_BT[targets_BT != IGNORED_LABEL].astype(np.float64)


def windows(
    token_ids: np.ndarray, context_length: int, eos_token_id: int, batch_size: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield inputs and targets [B, T] that cover a stream once; the last window is padded with ignored targets."""
    span = context_length * batch_size
    previous = eos_token_id
    for start in range(0, len(token_ids), span):
        targets = np.asarray(token_ids[start : start + span], dtype=np.int64)
        inputs = np.concatenate(([previous], targets[:-1]))
        previous = int(targets[-1])
        padding = -len(targets) % context_length if len(targets) > context_length else 0
        inputs = np.pad(inputs, (0, padding), constant_values=eos_token_id)
        targets = np.pad(targets, (0, padding), constant_values=IGNORED_LABEL)
        width = min(len(targets), context_length)
        yield inputs.reshape(-1, width), targets.reshape(-1, width)
