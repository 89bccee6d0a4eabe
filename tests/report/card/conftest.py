"""A model, a run of it, and results of every kind, as the commands print them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stentor.artifacts import staged_directory, write_file
from stentor.config import Recipe
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder
from stentor.model.llama import Llama
from stentor.model.names import to_hugging_face
from stentor.report.card.about import About
from stentor.report.card.results import Results, read_results
from stentor.report.card.subject import Material, open_subject

MACHINE = {"CPU": "A processor", "cores": "2 of 2 usable, 0.1 busy", "versions": "Python 3.11"}
SETTINGS = {
    "max_new_tokens": 50,
    "temperature": 0.9,
    "top_k": 0,
    "top_p": 0.65,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repetition_penalty": 1.15,
    "presence_penalty": 0.0,
    "seed": 3,
    "dtype": "int8",
    "num_threads": None,
    "device": "cpu",
}


def share(accuracy: float, num_asked: int = 100) -> dict:
    ends = {"low": accuracy - 0.05, "high": accuracy + 0.05}
    return {"accuracy": accuracy, **ends, "num_asked": num_asked, "num_ties": 0}


def ranged(accuracy: float, name: str = "accuracy") -> dict:
    return {name: accuracy, f"{name}_low": accuracy - 0.05, f"{name}_high": accuracy + 0.05}


BLIMP = {
    "task": "blimp",
    "data": "/data/blimp",
    "blimp_accuracy": 0.6895,
    "low": 0.68,
    "high": 0.7,
    "num_pairs": 67_000,
    "num_paradigms": 67,
    "is_whole": True,
    "num_ties": 0,
    "start": "eos",
    "space": False,
    "num_cut": 0,
    "phenomena": {"island_effects": share(0.5), "binding": share(0.75)},
    "paradigms": {},
    "fields": {},
}
CHOICE = {
    "task": "choice",
    "data": "/data/science.jsonl",
    **ranged(0.3),
    **ranged(0.35, "accuracy_per_byte"),
    "chance": 0.25,
    "num_questions": 1000,
    "num_cut": 0,
    "start": "bos",
}
LAMBADA = {
    "task": "lambada",
    "data": "lambada.jsonl",
    **ranged(0.12),
    "word_perplexity": 512.5,
    "num_passages": 5153,
    "start": "none",
    "num_cut": 0,
}
LM_EVAL = {
    "task": "lm-eval",
    "data": "arc_easy",
    "version": "0.4.13",
    "start": "eos",
    "tasks": {"arc_easy": {"alias": "arc_easy", "acc,none": 0.41, "acc_stderr,none": 0.01, "sample_len": 2376}},
}
EVALUATE = {
    "model": "/somewhere/model",
    "vocab_size": 320,
    "loss_nats": 3.0,
    "perplexity": 20.0855,
    "bits_per_byte": 1.25,
    "num_tokens": 1000,
    "num_bytes": 3462,
    "num_lossy_documents": 0,
    "num_lost_bytes": 0,
    "xz_bits_per_byte": 2.5,
    "documents": [
        {"document": "a", "loss_nats": 2.9, "num_tokens": 600, "num_bytes": 2000},
        {"document": "b", "loss_nats": 3.1, "num_tokens": 300, "num_bytes": 1100},
        {"document": "c", "loss_nats": 3.3, "num_tokens": 100, "num_bytes": 362},
    ],
    "tasks": [BLIMP, CHOICE, LAMBADA, LM_EVAL],
}
MODELS = [
    {
        "model": name,
        "num_parameters": count,
        "vocab_size": 320,
        "context_length": 32,
        "bytes_per_token": 3.5,
        "bits_per_byte": bits,
        "tasks": [BLIMP, LM_EVAL],
    }
    for name, count, bits in (("/somewhere/model", 32_928, 1.25), ("transformers:org/other-14m", 14_000_000, None))
]
CONTAMINATION = {
    "text": "/data/held-out.jsonl.zst",
    "num_words": 13,
    "normalisation": "lower case, no marks",
    "num_documents": 200,
    "num_overlapping_documents": 17,
    "num_short_documents": 3,
    "num_ngrams": 5,
    "documents": [],
    "documents_above": {"0.0": 17, "0.1": 4, "0.5": 1},
    "num_training_documents": 50_526,
    "num_training_bytes": 407_221_380,
    "losses": {
        "clean": {"bits_per_byte": 1.31, "num_documents": 183},
        "overlapping": {"bits_per_byte": None, "num_documents": 17},
    },
}
MEMORIZATION = {
    "model": "m",
    "training": "corpus/train.jsonl.zst",
    "num_samples": 200,
    "num_documents": 50_526,
    "num_prompt_tokens": 32,
    "mean_tokens": 1.37,
    "share_at_least": {"1": 0.41, "50": 0.005},
    "longest_tokens": 63,
    "longest_document": "/home/me/train:17",
    "longest_text": "```\nThe GNU General Public License",
}
COMPLETION = {
    "text": " is <b>bold</b>\n```\nand code",
    "num_new_tokens": 41,
    "prefill_seconds": 9.0,
    "decode_seconds": 0.4,
    "tokens_per_second": 4.0,
    "finish_reason": "max_new_tokens",
}
GENERATE = {"prompt": "A | B", "model": "m", "settings": SETTINGS, "completions": [COMPLETION]}
QUANTIZATION = {
    "model": "m",
    "machine": MACHINE,
    "text": "builtin:docs",
    "num_tokens": 8192,
    "num_bytes": 30_000,
    "num_threads": 2,
    "rows": [
        {
            "form": "float32",
            "measured_in": "transformers",
            "size_bytes": 49_200_000,
            "bits_per_byte": 1.1,
            "added_bits_per_byte": 0.0,
            "tokens_per_second": None,
            "max_logit_difference": 0.0,
        },
        {
            "form": "gguf q8_0",
            "measured_in": "llama.cpp",
            "size_bytes": 13_100_000,
            "bits_per_byte": 1.1007,
            "added_bits_per_byte": 0.0007,
            "tokens_per_second": 1234.5,
            "max_logit_difference": 0.0123,
        },
    ],
    "not_measured": {"nf4": "needs the package 'bitsandbytes'"},
}
BENCH = {
    "model": "m",
    "num_parameters": 32_928,
    "context_length": 32,
    "machine": MACHINE,
    "results": [
        {
            "name": "stentor: int8, cache int8",
            "num_threads": 1,
            "prefill_tokens_per_second": {"16": 13_710.4},
            "decode_ms": {"16": 0.25},
            "peak_bytes": None,
            "cold_start_seconds": 0.5,
        }
    ],
    "not_measured": {"transformers": "is not installed"},
}
ALL = {
    "evaluate": EVALUATE,
    "compare": {"text": "/data/held-out.jsonl", "models": MODELS, "notes": ["they differ"]},
    "contamination": CONTAMINATION,
    "memorization": MEMORIZATION,
    "generate": GENERATE,
    "quantization": QUANTIZATION,
    "bench": BENCH,
}


def paths_of(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the place of everything in an object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield (*path, key)
        yield from paths_of(one, (*path, key))


def changed(value: Any, path: tuple, new: Any) -> Any:
    """Return a copy with another value in a place, or without it where the new one is `del`."""
    copied = copy.deepcopy(value)
    inside = copied
    for key in path[:-1]:
        inside = inside[key]
    if new == "del":
        del inside[path[-1]]
    else:
        inside[path[-1]] = new
    return copied


@pytest.fixture(scope="session")
def places() -> SimpleNamespace:
    """Return what walks through an object: `of` yields every place in it, `changed` puts something else there."""
    return SimpleNamespace(of=paths_of, changed=changed)


@pytest.fixture
def few_resamples(monkeypatch) -> None:
    """Draw documents anew only a few times: quick, and an interval all the same."""
    monkeypatch.setattr("stentor.report.card.evaluation._RESAMPLES", 20)


@pytest.fixture
def put(tmp_path) -> Callable[..., Path]:
    """Return a function that writes results into a folder: those given by kind, and changed keys of others."""

    def write(**values: Any) -> Path:
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        for name, value in values.items():
            write_file(folder / f"{name.replace('_', '-')}.json", json.dumps(value))
        return folder

    return write


@pytest.fixture
def everything(put) -> Results:
    """Return results of every kind."""
    return read_results(put(**ALL))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tiny_config: ModelConfig, tiny_tokenizer) -> Path:
    """Return a folder with a model of random weights, which no test may change."""
    import torch

    torch.manual_seed(0)
    model = Llama(tiny_config)
    folder = tmp_path_factory.mktemp("card") / "model"
    with staged_directory(folder, kind="model") as staging:
        staging.details["export"] = {
            "proof": {
                "consumer": "transformers 5",
                "num_strings": 10_000,
                "num_positions": 64,
                "stored": {"max_logit_difference": 1e-6},
            }
        }
        tensors = to_hugging_face(tiny_config, model.state_dict())
        write_model_folder(staging, tiny_config, tensors, tiny_tokenizer)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, tiny_recipe: Recipe, tiny_tokenizer, log, made) -> Path:
    """Return a folder with the recipe and log of a run that made that model, which no test may change."""
    folder = tmp_path_factory.mktemp("card") / "run"
    folder.mkdir()
    counted = [{**record, "num_tokens": 500, "num_bytes": 1500} for record in log.evaluations]
    start = made.start(
        device_name="NVIDIA H200",
        num_processes=2,
        tokenizer_sha256=tiny_tokenizer.sha256,
        num_epochs=1.5,
        precision="bfloat16",
        torch="2.13.0",
        held_out_sha256="0" * 64,
    )
    records = [start, *log.train, *counted, *log.scales]
    write_file(folder / "log.jsonl", "".join(f"{json.dumps(record)}\n" for record in records))
    write_file(folder / "recipe.toml", tiny_recipe.to_toml())
    return folder


@pytest.fixture
def material(model_folder, run_folder, everything) -> Material:
    """Return all that a full card is made of, but for what its maker says."""
    return Material(open_subject(model_folder, run_dir=run_folder), About(), everything)


@pytest.fixture
def bare(model_folder) -> Material:
    """Return a model alone."""
    return Material(open_subject(model_folder, run_dir=None), About(), Results())
