"""The whole line in one call: text, tokenizer, shards, training, evaluation, exports, samples and a report."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stentor.artifacts import write_file
from stentor.config import Recipe
from stentor.evaluate.baselines import Baselines, baselines
from stentor.evaluate.text import evaluate
from stentor.export.gguf import export_gguf
from stentor.export.huggingface import export_huggingface
from stentor.export.parity import ExportReport
from stentor.model.device import compute_dtype, pick_device
from stentor.model.measure import Evaluation
from stentor.prepare import Prepared, Watch, prepare
from stentor.report.folder import write_report
from stentor.report.page import RunReport, Sample, ShippedFile, render_run_report
from stentor.report.run_log import read_log
from stentor.runtime.engine import load
from stentor.train.log import LOG_NAME, Observer
from stentor.train.loop import train
from stentor.version import __version__

RECIPE = "tiny"
PROMPTS = ("This module provides", "Return the number of", "If the file does not exist,")
SAMPLE_TOKENS = 60


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made and measured."""

    folder: Path
    corpus_sha256: str
    evaluation: Evaluation
    baselines: Baselines
    exports: tuple[ExportReport, ...]
    samples: tuple[Sample, ...]
    report: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the result as `--json` prints it."""
        return {
            "folder": str(self.folder),
            "corpus_sha256": self.corpus_sha256,
            **self.evaluation.to_dict(),
            **self.baselines.to_dict(),
            "exports": [export.to_dict() for export in self.exports],
            "samples": [asdict(sample) for sample in self.samples],
            "report": str(self.report),
        }


def run_demo(
    folder: Path,
    *,
    watch: Watch,
    observer: Observer | None = None,
    say: Callable[[str], None],
    overrides: tuple[str, ...] = (),
) -> DemoResult:
    """Run every stage on the embedded default, offline; a demo that was stopped goes on where it was.

    Args:
        folder: receives data/, run/, model/, model.gguf and report.html.
        watch: opens a display for a data stage.
        observer: shown the training log.
        say: told what happens next.
        overrides: of the `tiny` recipe.
    """
    recipe = Recipe.load(RECIPE, overrides=overrides)
    prepared = prepare(recipe, folder / "data", watch=watch)
    say(f"text: {recipe.text.source}, sha256 {prepared.corpus.details['sha256']}")
    run_dir = train(recipe, prepared.shards, folder / "run", observer=observer)
    say("measuring the best weights on the held-out text, beside gzip and xz")
    evaluation, compared = _measured(run_dir, prepared)
    say("writing a folder for transformers and a file for llama.cpp, and opening each there")
    exports = (
        export_huggingface(run_dir, folder / "model", replace=True),
        export_gguf(run_dir, folder / "model.gguf", dtype="q8_0", replace=True),
    )
    samples = _samples(folder / "model")
    report = RunReport(
        name=f"{recipe.name}, {recipe.model.num_parameters / 1e6:.1f}M parameters",
        description=recipe.description,
        num_parameters=recipe.model.num_parameters,
        log=read_log(run_dir / LOG_NAME),
        tokenizer=f"byte-level BPE, {prepared.tokenizer.vocab_size:,} tokens",
        samples=samples,
        files=_files(folder, exports),
        origin=_origin(recipe, prepared),
        commands=_commands(folder),
        **_training_facts(recipe, run_dir),
        loss_nats=evaluation.loss_nats,
        perplexity=evaluation.perplexity,
        bits_per_byte=evaluation.bits_per_byte,
        num_tokens=evaluation.num_tokens,
        num_bytes=evaluation.num_bytes,
        **{key: value for key, value in compared.to_dict().items() if key.endswith("bits_per_byte")},
    )
    write_report(read_log(run_dir / LOG_NAME), run_dir)
    write_file(folder / "report.html", render_run_report(report))
    return DemoResult(
        folder, prepared.corpus.details["sha256"], evaluation, compared, exports, samples, folder / "report.html"
    )


def _measured(run_dir: Path, prepared: Prepared) -> tuple[Evaluation, Baselines]:
    texts = [document.text for document in prepared.corpus.documents("validation")]
    return evaluate(run_dir, texts), baselines(texts, prepared.tokenizer)


def _samples(model_dir: Path) -> tuple[Sample, ...]:
    model = load(model_dir)
    return tuple(
        Sample(prompt, model.generate(prompt, max_new_tokens=SAMPLE_TOKENS, temperature=0.7)) for prompt in PROMPTS
    )


def _training_facts(recipe: Recipe, run_dir: Path) -> dict[str, Any]:
    log, device = read_log(run_dir / LOG_NAME), pick_device()
    precision = str(compute_dtype(recipe.train.precision, device)).removeprefix("torch.")
    return {
        "tokens_seen": log.train[-1]["tokens_seen"],
        "seconds": log.seconds,
        "device": f"{device.type}, {torch.get_num_threads()} threads, {precision}",
    }


def _files(folder: Path, exports: tuple[ExportReport, ...]) -> tuple[ShippedFile, ...]:
    openers = {"huggingface": "transformers", "gguf": "llama.cpp"}
    return tuple(
        ShippedFile(export.path, export.size_bytes, openers.get(export.format, export.format)) for export in exports
    )


def _origin(recipe: Recipe, prepared: Prepared) -> dict[str, str]:
    return {
        "corpus": f"{recipe.text.source}, sha256 {prepared.corpus.details['sha256']}",
        "recipe": f"{recipe.name}, sha256 {recipe.hash()}",
        "tokenizer": f"sha256 {prepared.tokenizer.sha256}",
        "versions": f"stentor {__version__}, Python {platform.python_version()}, torch {torch.__version__}",
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _commands(folder: Path) -> dict[str, str]:
    return {
        "write with it": f'stentor generate "This module provides" --model {folder}/model',
        "measure it on any text": f"stentor evaluate {folder}/model README.md",
        "open it in transformers": f'python -c "from transformers import pipeline; '
        f"print(pipeline('text-generation', '{folder}/model')('This module provides'))\"",
        "open it in llama.cpp": f'llama-cli -m {folder}/model.gguf -p "This module provides" -n 50 -no-cnv',
        "train on your own text": "stentor train tiny --set text.source=FOLDER_OR_FILE --set name=mine",
        "train the reference's shape": "stentor train stentor2-12m --dry-run",
    }
