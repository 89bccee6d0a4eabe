"""What is measured, and what came of it. A child process imports this before it knows how little memory it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

ENGINES = {
    "stentor": "stentor",
    "xllamacpp": "llama.cpp (xllamacpp)",
    "llama_cpp": "llama.cpp (llama-cpp-python)",
    "transformers": "transformers",
    "onnxruntime": "onnxruntime",
}
"""Engines by the name of the module that runs them, and what people call them."""
FLASH, PLAIN = "flash", "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One way to run a model.

    Attributes:
        engine: a key of `ENGINES`.
        dtype: of the weights, as the engine names it.
        cache_dtype: of keys and values.
        attention: `flash` or `plain` in llama.cpp, `sdpa` or `eager` in transformers; empty where there is no choice.
        num_threads: that compute.
    """

    engine: str
    dtype: str
    cache_dtype: str
    attention: str = ""
    num_threads: int = 1

    @property
    def name(self) -> str:
        """What tables call it, but for its threads."""
        parts = [self.dtype, f"cache {self.cache_dtype}", *([self.attention] if self.attention else [])]
        return f"{ENGINES[self.engine]}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What each engine has to do.

    Attributes:
        prompt_lengths: tokens that are read from nothing.
        positions: of the first of the tokens that are made, one from the other.
        num_new_tokens: that are made from each position on.
        repeats: of each; the median counts.
    """

    prompt_lengths: Sequence[int] = (16, 128, 512, 1000)
    positions: Sequence[int] = (16, 128, 900)
    num_new_tokens: int = 32
    repeats: int = 5

    def within(self, context_length: int) -> Work:
        """Return what of it a context holds, and the most that it holds in place of all that it does not."""
        num_new_tokens = min(self.num_new_tokens, max(context_length // 4, 1))
        return replace(
            self,
            prompt_lengths=_at_most(self.prompt_lengths, context_length - 1),
            positions=_at_most(self.positions, context_length - num_new_tokens - 1),
            num_new_tokens=num_new_tokens,
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of the longest text that is read or made."""
        return max(*self.prompt_lengths, max(self.positions) + self.num_new_tokens) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a child process is asked.

    Attributes:
        path: of the model, in the form that the engine opens.
        setting: how to run it.
        work: what to do.
        token_ids: of the longest text; shorter ones are its beginnings.
    """

    path: str
    setting: Setting
    work: Work
    token_ids: list[int]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> Request:
        """Return what `to_dict` was called on."""
        return cls(**{**body, "setting": Setting(**body["setting"]), "work": Work(**body["work"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How a setting did.

    Attributes:
        cold_start_seconds: from the start of its process until the token after a short prompt is known.
        prefill_seconds: for each length of a prompt, to read it and choose the token after it.
        decode_seconds: for each position, one token's.
        peak_bytes: of memory above a bare Python process; None where the system does not tell.
        version: of the engine, and of its build where it says so.
    """

    cold_start_seconds: float
    prefill_seconds: dict[int, float]
    decode_seconds: dict[int, float]
    peak_bytes: int | None
    version: str


def _at_most(wanted: Sequence[int], most: int) -> tuple[int, ...]:
    held = tuple(count for count in wanted if count <= most)
    return held if len(held) == len(wanted) else tuple(dict.fromkeys((*held, max(most, 1))))
