"""The demo on a small text and a short training: every file is made, and a second call makes none of them again."""

from __future__ import annotations

import importlib.util
import json
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from stentor import demo
from stentor.artifacts import verify_directory, write_file
from stentor.demo import DemoResult, run_demo
from stentor.report.run_log import read_log

TEXT = "this module provides a return value of the number if file does not exist it is read and written to disk"
WORDS = TEXT.split()
REPORT = ("table.md", "curves.svg", "curves.png", "dynamics.svg", "dynamics.png")
SETTINGS = (
    "text.validation=take:9",
    "text.min_characters=20",
    "tokenizer.vocab_size=300",
    "model.vocab_size=384",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.num_hidden_layers=2",
    "model.head_dim=16",
    "model.max_position_embeddings=64",
    "train.tokens=2560",
    "train.global_batch_tokens=256",
    "train.warmup_steps=2",
    "train.eval_every=5",
    "train.save_every=5",
)


class Demo:
    """Runs the demo in one folder, its exports proven or not, and keeps what it says."""

    def __init__(self, folder: Path, *, proven: bool) -> None:
        self.folder, self.proven = folder, proven
        generator = np.random.default_rng(0)
        texts = [" ".join(generator.choice(WORDS, 60)).capitalize() + "." for _ in range(60)]
        write_file(folder / "text.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
        self.stages: list[str] = []
        self.records: list[dict] = []
        self.said: list[str] = []

    def __call__(self) -> DemoResult:
        for heard in (self.stages, self.records, self.said):
            heard.clear()
        source = f"text.source={self.folder / 'text.jsonl'}"
        with pytest.MonkeyPatch.context() as patch:
            if not self.proven:
                without_proof(patch)
            return run_demo(
                self.folder / "demo",
                watch=self._watch,
                observer=self.records.append,
                say=self.said.append,
                overrides=(source, *SETTINGS),
            )

    @contextmanager
    def _watch(self, label: str):
        self.stages.append(label)
        yield lambda num_documents, num_bytes: None

    def made(self) -> dict[str, tuple[int, int]]:
        """Return when and where on the disk everything costly was made."""
        paths = [*self.folder.glob("demo/data/*"), *self.folder.glob("demo/run/checkpoints/*")]
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


def without_proof(patch: pytest.MonkeyPatch) -> None:
    """Export as on a machine where neither transformers nor llama.cpp is installed."""
    find_spec, consumers = importlib.util.find_spec, ("transformers", "xllamacpp")
    patch.setattr(importlib.util, "find_spec", lambda name: None if name in consumers else find_spec(name))
    for export in ("export_huggingface", "export_gguf"):
        patch.setattr(demo, export, partial(getattr(demo, export), unverified=True))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a demo that has run once, unproven, and its result."""
    ran = Demo(tmp_path_factory.mktemp("demo"), proven=False)
    return ran, ran()


def test_every_file_is_made(finished):
    _, result = finished
    for name in ("corpus", "tokenizer", "shards"):
        verify_directory(result.folder / "data" / name, kind=name)
    verify_directory(result.folder / "model", kind="model")
    assert (result.folder / "model.gguf").read_bytes().startswith(b"GGUF")
    assert result.report == result.folder / "report.html"
    made = {path.relative_to(result.folder).as_posix() for path in result.folder.rglob("*")}
    assert {"run/recipe.toml", "run/log.jsonl", *(f"run/report/{name}" for name in REPORT)} <= made
    assert not [name for name in made if "partial" in name]


def test_the_result_holds_what_was_measured(finished):
    _, result = finished
    best = read_log(result.folder / "run" / "log.jsonl").best_evaluation
    assert result.evaluation.num_tokens == best["num_tokens"]
    assert result.evaluation.num_bytes == best["num_bytes"] == result.baselines.num_bytes
    assert result.evaluation.bits_per_byte == pytest.approx(best["bits_per_byte"], rel=5e-3)
    assert [export.path for export in result.exports] == [str(result.folder / name) for name in ("model", "model.gguf")]
    assert [sample.prompt for sample in result.samples] == list(demo.PROMPTS)
    assert any(sample.continuation for sample in result.samples)


def test_the_result_is_one_json_object(finished):
    _, result = finished
    value = json.loads(json.dumps(result.to_dict()))
    assert value["bits_per_byte"] == result.evaluation.bits_per_byte
    assert value["corpus_sha256"] == verify_directory(result.folder / "data" / "corpus").details["sha256"]
    assert {"loss_nats", "perplexity", "num_tokens", "num_bytes", "xz_bits_per_byte", "gzip_bits_per_byte"} <= set(
        value
    )
    assert [export["format"] for export in value["exports"]] == ["huggingface", "gguf"]


def check_report(result: DemoResult) -> None:
    page = result.report.read_text(encoding="utf-8")
    for number in (
        f"{result.evaluation.bits_per_byte:.3f}",
        f"{result.baselines.xz_bits_per_byte:.3f}",
        f"{result.baselines.gzip_bits_per_byte:.3f}",
        f"{result.evaluation.num_bytes:,}",
        result.corpus_sha256,
        *demo.PROMPTS,
        f"stentor evaluate {result.folder}/model README.md",
    ):
        assert number in page, number


def test_the_report_holds_the_numbers(finished):
    _, result = finished
    check_report(result)


@pytest.mark.slow
def test_a_second_call_reuses_data_and_training(finished):
    ran, first = finished
    before = ran.made()
    assert {"corpus", "tokenizer", "shards", "step-0000010"} <= before.keys()
    again = ran()
    assert ran.made() == before
    assert ran.stages == []
    assert [record["kind"] for record in ran.records] == ["start", "finished"]
    assert again.evaluation == first.evaluation
    assert again.samples == first.samples
    assert ran.said[0] == f"text: {ran.folder / 'text.jsonl'}, sha256 {first.corpus_sha256}"


@pytest.mark.slow
def test_the_whole_line_with_its_proofs(tmp_path):
    ran = Demo(tmp_path, proven=True)
    first = ran()
    assert ran.stages == ["reading and cleaning text", "learning a vocabulary", "packing token ids"]
    assert [export.to_dict()["verified"] for export in first.exports] == [True, True]
    check_report(first)
    before = ran.made()
    again = ran()
    assert ran.made() == before
    assert again.evaluation == first.evaluation
    assert again.samples == first.samples
