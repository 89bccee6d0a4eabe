"""Measure settings in turn, round after round: what disturbs the machine then disturbs all of them. Medians count."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from stentor.bench.floor import bytes_of_a_token, cache_bytes, read_bytes_per_second, weight_bytes
from stentor.bench.forms import LLAMA_CPP_DTYPE, prepared
from stentor.bench.process import measure_once
from stentor.bench.setting import ENGINES, FLASH, PLAIN, Measurement, Request, Setting, Work
from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.weights import Weights
from stentor.runtime.dtypes import CACHE_DTYPES, DTYPES
from stentor.runtime.packing import MAX_PARTS

OURS = "stentor"
_FEWEST_TOKENS = Work(prompt_lengths=(1,), positions=(1,), num_new_tokens=1, repeats=1)


@dataclass(frozen=True, slots=True)
class Result:
    """How a setting did, over all rounds.

    Attributes:
        setting: what was run.
        measured: medians.
        read_bytes_per_second: at which as many threads read a buffer of the weights' size; the best of all rounds.
        weight_bytes: that a token must read at least.
        cache_bytes: the same for each position, of keys and values.
    """

    setting: Setting
    measured: Measurement
    read_bytes_per_second: float
    weight_bytes: int
    cache_bytes: dict[int, int]

    def floor_seconds(self, position: int) -> float:
        """Return what reading the bytes of a token at a position takes on this machine."""
        return (self.weight_bytes + self.cache_bytes[position]) / self.read_bytes_per_second

    def share_of_floor(self, position: int) -> float:
        """Return the floor over what the engine takes: 1 could not be faster."""
        return self.floor_seconds(position) / self.measured.decode_seconds[position]

    def to_dict(self) -> dict[str, Any]:
        """Return all that is known of it, as `--json` prints it."""
        measured = self.measured
        prefill, decode = measured.prefill_seconds.items(), measured.decode_seconds
        return {
            "name": self.setting.name,
            **asdict(self.setting),
            "prefill_tokens_per_second": {length: length / seconds for length, seconds in prefill},
            "decode_ms": {position: 1e3 * seconds for position, seconds in decode.items()},
            "floor_ms": {position: 1e3 * self.floor_seconds(position) for position in decode},
            "share_of_floor": {position: self.share_of_floor(position) for position in decode},
            "read_bytes_per_second": self.read_bytes_per_second,
            "weight_bytes": self.weight_bytes,
            "cache_bytes": self.cache_bytes,
            "peak_bytes": measured.peak_bytes,
            "cold_start_seconds": measured.cold_start_seconds,
            "version": measured.version,
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """All results, in the order of the settings, and which engines or settings have none, and why."""

    results: list[Result]
    not_measured: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return both, as `--json` prints them."""
        return {"results": [result.to_dict() for result in self.results], "not_measured": self.not_measured}


def thread_counts(num_cores: int) -> tuple[int, ...]:
    """Return the powers of two up to the number of cores, and that number."""
    powers = itertools.takewhile(lambda count: count < num_cores, (1 << power for power in range(32)))
    return (*powers, num_cores)


def settings_of(engine: str, threads: Iterable[int], *, quick: bool = False) -> list[Setting]:
    """Return the ways to run an engine that are measured.

    Args:
        engine: a key of `ENGINES`.
        threads: how many may compute.
        quick: only the ways that are the fastest as a rule.
    """
    first = 1 if quick else None
    if engine == OURS:
        pairs = [("int8", "int8")] if quick else list(itertools.product(DTYPES, CACHE_DTYPES))
        kinds = [Setting(engine=engine, dtype=dtype, cache_dtype=cache_dtype) for dtype, cache_dtype in pairs]
        threads = sorted({min(count, MAX_PARTS) for count in threads})
    elif engine == "transformers":
        kinds = [
            Setting(engine=engine, dtype="float32", cache_dtype="float32", attention=attention)
            for attention in ("sdpa", "eager")[:first]
        ]
    elif engine == "onnxruntime":
        kinds = [Setting(engine=engine, dtype=dtype, cache_dtype="float32") for dtype in ("int8", "float32")[:first]]
    else:
        kinds = [
            Setting(engine=engine, dtype=LLAMA_CPP_DTYPE, cache_dtype="float16", attention=attention)
            for attention in (FLASH, PLAIN)[:first]
        ]
    return [replace(kind, num_threads=count) for kind, count in itertools.product(kinds, threads)]


def run_bench(
    model: Weights,
    settings: Sequence[Setting],
    work: Work,
    *,
    num_rounds: int = 3,
    say: Callable[[str], None] = lambda _: None,
) -> Bench:
    """Measure a model in all settings.

    Args:
        model: as it was read.
        settings: of any engines; what cannot be measured is named in the result.
        work: what each has to do; what the model's context does not hold is cut to what it does.
        num_rounds: each setting is measured in a new process every round.
        say: is told what is being done.

    Raises:
        UserError: our own engine refuses the model.
    """
    work = work.within(model.config.max_position_embeddings)
    say("writing the model as each engine opens it")
    with prepared(model, list(dict.fromkeys(setting.engine for setting in settings))) as forms:
        rounds = _Rounds(model, work, forms.paths)
        rounds.not_measured |= {ENGINES[engine]: reason for engine, reason in forms.not_measured.items()}
        left = [setting for setting in settings if setting.engine in forms.paths]
        rounds.compile_ours(left)
        for number in range(1, num_rounds + 1):
            for setting in left:
                say(f"round {number} of {num_rounds}: {setting.name}, threads: {setting.num_threads}")
                rounds.measure(setting)
    return Bench([rounds.result(setting) for setting in left if setting in rounds.measured], rounds.not_measured)


@dataclass(slots=True)
class _Rounds:
    """What has been measured so far."""

    model: Weights
    work: Work
    paths: dict[str, str]
    measured: dict[Setting, list[Measurement]] = field(default_factory=dict)
    read_rates: dict[tuple[int, int], float] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def compile_ours(self, settings: Sequence[Setting]) -> None:
        """Let kernels be compiled, which happens once on a machine and belongs to no measurement."""
        ours = [setting for setting in settings if setting.engine == OURS]
        for setting in sorted(ours, key=lambda setting: setting.num_threads)[-1:]:
            measure_once(self._request(setting, _FEWEST_TOKENS))

    def measure(self, setting: Setting) -> None:
        """Measure a setting once more, and what memory gives; one that has failed is left out."""
        name = f"{setting.name}, threads: {setting.num_threads}"
        if name in self.not_measured:
            return
        try:
            measured = measure_once(self._request(setting, self.work))
        except UserError as error:
            if setting.engine == OURS:
                raise
            self.not_measured[name] = error.message
            self.measured.pop(setting, None)
            return
        self.measured.setdefault(setting, []).append(measured)
        buffer = bytes_of_a_token(self.model.config, setting, 0), setting.num_threads
        self.read_rates[buffer] = max(self.read_rates.get(buffer, 0.0), read_bytes_per_second(*buffer))

    def _request(self, setting: Setting, work: Work) -> Request:
        ids = token_ids(self.model, work.num_tokens)
        return Request(path=self.paths[setting.engine], setting=setting, work=work, token_ids=ids)

    def result(self, setting: Setting) -> Result:
        """Return the medians of a setting."""
        config: ModelConfig = self.model.config
        return Result(
            setting,
            median_of(self.measured[setting]),
            self.read_rates[bytes_of_a_token(config, setting, 0), setting.num_threads],
            weight_bytes(config, setting.dtype),
            {position: cache_bytes(config, setting.cache_dtype, position + 1) for position in self.work.positions},
        )


def token_ids(model: Weights, count: int) -> list[int]:
    """Return so many ids of the vocabulary, always the same: what they mean changes no time."""
    size = model.config.vocab_size if model.tokenizer is None else model.tokenizer.vocab_size
    return np.random.default_rng(0).integers(0, size, count).tolist()


def median_of(measurements: Sequence[Measurement]) -> Measurement:
    """Return the medians of several measurements of one setting."""

    def median(values: Iterable[float]) -> float:
        return statistics.median(values)

    peaks = [measured.peak_bytes for measured in measurements if measured.peak_bytes is not None]
    first = measurements[0]
    return Measurement(
        cold_start_seconds=median(measured.cold_start_seconds for measured in measurements),
        prefill_seconds={
            length: median(measured.prefill_seconds[length] for measured in measurements)
            for length in first.prefill_seconds
        },
        decode_seconds={
            position: median(measured.decode_seconds[position] for measured in measurements)
            for position in first.decode_seconds
        },
        peak_bytes=round(median(peaks)) if peaks else None,
        version=first.version,
    )
