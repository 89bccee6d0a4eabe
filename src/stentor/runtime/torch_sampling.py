"""Draw the next token of several continuations where their logits are: `sampling` in torch, for a GPU.

What is drawn is what `sampling.sample` would draw of the same logits and random numbers; `sampling_reference` says how
probabilities are defined. Shapes: B continuations, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stentor.runtime.network import NO_NUMBERS, NONE_LEFT
from stentor.runtime.sampling import Sampling

_NEVER = float("-inf")


class TorchSampler:
    """What the distribution of the next token depends on besides the logits: settings, and the tokens so far.

    Args:
        settings: of each draw.
        prompt_ids: what all continue.
        num_sequences: how many continuations.
        vocab_size: number of logits.
        num_tokens: of the tokenizer; rows beyond stand for no token.
        eos_token_id: the token that `min_new_tokens` and `ignore_eos` forbid.
        device: of the logits.
    """

    def __init__(
        self,
        settings: Sampling,
        prompt_ids: Sequence[int],
        *,
        num_sequences: int,
        vocab_size: int,
        num_tokens: int,
        eos_token_id: int,
        device: torch.device,
    ) -> None:
        self._settings, self._eos_token_id, self._num_drawn = settings, eos_token_id, 0
        self._dtype = torch.float32 if device.type == "mps" else torch.float64  # which Apple's GPUs do not have
        bias_V = torch.zeros(vocab_size, dtype=self._dtype)
        for token_id, bias in settings.logit_bias.items():
            bias_V[token_id] = bias
        bias_V[num_tokens:] = _NEVER
        seen_V = torch.zeros(vocab_size, dtype=torch.bool)
        seen_V[list(prompt_ids)] = True
        self._bias_V = bias_V.to(device)
        self._seen_BV = seen_V.to(device).repeat(num_sequences, 1)
        self._counts_BV = torch.zeros(num_sequences, vocab_size, dtype=self._dtype, device=device)

    def draw(self, logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
        """Return a token of each continuation [B], or what says why there is none, and remember it.

        Args:
            logits_BV: of every token.
            uniform_B: random numbers from [0, 1).
        """
        scores_BV = self._penalized(logits_BV)
        is_greedy = self._settings.temperature == 0
        ids_B = scores_BV.argmax(-1) if is_greedy else _drawn(self._probs(scores_BV), uniform_B)
        highest_B = scores_BV.max(-1).values
        self.push(ids_B)
        ids_B = torch.where(highest_B > _NEVER, ids_B, NONE_LEFT)
        return torch.where(logits_BV.max(-1).values < float("inf"), ids_B, NO_NUMBERS)  # which NaN is not, either

    def distribution(self, logits_BV: Tensor) -> Tensor:
        """Return the probabilities [B, V] of the next tokens; the temperature must not be 0."""
        return self._probs(self._penalized(logits_BV))

    def push(self, ids_B: Tensor) -> None:
        """Add a token to each output."""
        self._num_drawn += 1
        self._seen_BV.scatter_(1, ids_B[:, None], True)
        self._counts_BV.scatter_add_(1, ids_B[:, None], torch.ones_like(ids_B, dtype=self._dtype)[:, None])

    def _penalized(self, logits_BV: Tensor) -> Tensor:
        settings, scores_BV = self._settings, logits_BV.to(self._dtype) + self._bias_V
        if (penalty := settings.repetition_penalty) != 1:
            penalized_BV = torch.where(scores_BV > 0, scores_BV / penalty, scores_BV * penalty)
            scores_BV = torch.where(self._seen_BV, penalized_BV, scores_BV)
        if settings.frequency_penalty or settings.presence_penalty:
            scores_BV = scores_BV - settings.frequency_penalty * self._counts_BV
            scores_BV = scores_BV - settings.presence_penalty * (self._counts_BV > 0)
        if settings.ignore_eos or self._num_drawn < settings.min_new_tokens:
            scores_BV[:, self._eos_token_id] = _NEVER
        return scores_BV

    def _probs(self, scores_BV: Tensor) -> Tensor:
        settings, temperature = self._settings, self._settings.temperature
        if 0 < settings.top_k < scores_BV.shape[1]:
            border_B1 = scores_BV.topk(settings.top_k).values[:, -1:]
            scores_BV = scores_BV.masked_fill(scores_BV < border_B1, _NEVER)
        if settings.top_p < 1:
            scores_BV = _keep_top_p(scores_BV, settings.top_p, temperature)
        probs_BV = _softmax(scores_BV, temperature)
        if settings.min_p > 0:
            probs_BV = probs_BV.masked_fill(probs_BV < settings.min_p * probs_BV.max(-1, keepdim=True).values, 0)
            probs_BV = probs_BV / probs_BV.sum(-1, keepdim=True)
        if settings.typical_p < 1:
            probs_BV = _keep_typical(probs_BV, settings.typical_p)
        return probs_BV


def _softmax(scores_BV: Tensor, temperature: float) -> Tensor:
    return ((scores_BV - scores_BV.max(-1, keepdim=True).values) / temperature).softmax(-1)


def _drawn(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the first token up to which the probabilities sum to more than a number, of those that have some."""
    passed_BV = probs_BV.cumsum(-1) > uniform_B[:, None]
    last_B = probs_BV.shape[1] - 1 - (probs_BV > 0).flip(-1).int().argmax(-1)
    return torch.where(passed_BV.any(-1), passed_BV.int().argmax(-1), last_B)


def _keep_top_p(scores_BV: Tensor, top_p: float, temperature: float) -> Tensor:
    sorted_BV, order_BV = scores_BV.sort(dim=-1, descending=True, stable=True)
    probs_BV = _softmax(sorted_BV, temperature)
    dropped_BV = probs_BV.cumsum(-1) - probs_BV >= top_p
    return scores_BV.masked_fill(torch.zeros_like(dropped_BV).scatter(1, order_BV, dropped_BV), _NEVER)


def _keep_typical(probs_BV: Tensor, typical_p: float) -> Tensor:
    surprises_BV = -probs_BV.log()
    entropy_B1 = (probs_BV * surprises_BV).nan_to_num(0.0).sum(-1, keepdim=True)
    distances_BV, order_BV = (surprises_BV - entropy_B1).abs().sort(dim=-1, stable=True)
    last_B1 = (probs_BV.gather(1, order_BV).cumsum(-1) < typical_p).sum(-1, keepdim=True)
    border_B1 = distances_BV.gather(1, last_B1.clamp(max=probs_BV.shape[1] - 1))
    kept_BV = probs_BV.masked_fill((surprises_BV - entropy_B1).abs() > border_B1, 0)
    return kept_BV / kept_BV.sum(-1, keepdim=True)
