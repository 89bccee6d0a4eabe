"""A model learns a text through an adapter: read, measure, train, save, merge, prove, measure again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from dataclasses import replace as replace_fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stentor.errors import MissingDependencyError, UserError, missing_extra, nearest_name

try:
    import torch
except ImportError:
    # Before the other stages, which would name the extra that they want themselves.
    raise missing_extra("torch", "finetune", needed_for="fine-tuning") from None

from stentor.artifacts import Staging, refuse_existing, staged_directory
from stentor.config import TextConfig
from stentor.evaluate.text import EncodedDocuments, encode_documents
from stentor.export.huggingface import prove, write_folder
from stentor.export.parity import compare_logits, require_within
from stentor.export.source import Source, make_question, our_logits, read_source
from stentor.finetune.adapter import adapted, merged, opened_with, save_adapter
from stentor.finetune.settings import FinetuneSettings
from stentor.finetune.training import OnStep, StepRecord, train_adapter
from stentor.model.device import device_name, pick_device
from stentor.model.folder import build_model, write_model_folder
from stentor.model.locate import resolve_model
from stentor.model.measure import Evaluation, Progress, measure
from stentor.model.scorer import TorchScorer
from stentor.runtime.dtypes import DEVICES
from stentor.shards.build import Shards, build_shards
from stentor.shards.pack import PackedSequences
from stentor.text.corpus import prepare_corpus
from stentor.text.sources import read_texts

if TYPE_CHECKING:
    from peft import PeftModel

KIND, ADAPTER, MERGED = "finetune", "adapter", "merged"
RELATIVE_LOGIT_LIMIT = 1e-4
Watch = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """A text's measure under the model as it was, and as it has become."""

    before: Evaluation
    after: Evaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneReport:
    """What came of a fine-tuning.

    Attributes:
        path: the folder, with `adapter/` and `merged/`.
        held_out: of the text's held-out documents.
        kept: of the text that must not be forgotten; None where none was named.
        num_trained: values of the adapter.
        num_tokens: that were trained on, each epoch counted.
        num_steps: updates.
        seconds: of the training alone.
        device: where.
        settings: of the training.
    """

    path: str
    held_out: BeforeAndAfter
    kept: BeforeAndAfter | None = None
    num_trained: int
    num_tokens: int
    num_steps: int
    seconds: float
    device: str
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


def finetune(
    model: str | Path,
    text: str,
    destination: Path,
    settings: FinetuneSettings | None = None,
    *,
    keep: str | None = None,
    device: str = "auto",
    replace: bool = False,
    watch: Watch,
    on_step: OnStep,
    on_measure: Progress | None = None,
) -> FinetuneReport:
    """Train a low-rank adapter of a model on a text; keep it, and the model with it merged in.

    `adapter/` opens in peft beside the model, `merged/` in transformers by itself. Both are opened there before they
    are kept: peft's logits must be those of the merged weights, and transformers must find every tensor and token id.

    Args:
        model: a model folder, a run folder, a .gguf file or a Hub id.
        text: a source of text, see docs/text.md; part of it is held out.
        destination: the folder to make.
        settings: of the adapter and its training.
        keep: a source of other text, on which is measured what was forgotten.
        device: `auto`, `cpu`, `cuda` or `mps`.
        replace: an existing destination is replaced; otherwise it is refused.
        watch: opens a display for reading the text and yields its progress callback (documents, bytes).
        on_step: called after each update.
        on_measure: called with (tokens scored, tokens in all) of each text that is measured.

    Raises:
        UserError: the model, the text or a setting cannot be used, the loss is no number, or an export is not proven.
        MissingDependencyError: peft, bitsandbytes or the device is not there.
    """
    settings = settings or FinetuneSettings()
    refuse_existing(destination, replace=replace, kind=KIND)
    place = _device(device)
    source = read_source(model, dtype="float32")
    with tempfile.TemporaryDirectory(prefix="stentor-finetune-") as folder:
        base = Path(folder) / "base"
        with staged_directory(base, kind="model") as staging:
            write_model_folder(staging, source.config, source.tensors, source.tokenizer)
        shards = _shards(text, settings, source, Path(folder) / "text", watch)
        texts = {"held_out": _held_out(shards), **({} if keep is None else {"kept": _encoded(keep, source)})}
        before = _measured(source, texts, place, on_measure)
        trained, records, seconds = _trained(base, shards, settings, place, on_step)
        with staged_directory(destination, kind=KIND, replace=replace) as staging:
            save_adapter(trained, staging, ADAPTER, base_name=_name_of(model))
            result = _merge(source, base, staging, name=destination.name)
            after = _measured(result, texts, place, on_measure)
            report = FinetuneReport(
                path=str(destination),
                **{name: BeforeAndAfter(before[name], after[name]) for name in texts},
                num_trained=sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad),
                num_tokens=len(records) * settings.batch * source.config.max_position_embeddings,
                num_steps=len(records),
                seconds=seconds,
                device=device_name(place),
                settings=settings.to_dict(),
            )
            staging.write("log.jsonl", "".join(f"{json.dumps(asdict(record))}\n" for record in records))
            staging.details.update(report.to_dict())
    return report


def _device(name: str) -> torch.device:
    """Return where to compute.

    Raises:
        UserError: there is no device of that name.
        MissingDependencyError: there is none in this machine.
    """
    if name not in DEVICES:
        raise UserError(f"there is no device {name!r}", fix=nearest_name(name, DEVICES))
    found = pick_device()
    if name not in ("auto", "cpu", found.type):
        raise MissingDependencyError(
            f"torch finds no device {name} here", fix="use --device cpu, or see stentor doctor"
        )
    return torch.device("cpu") if name == "cpu" else found


def _shards(text: str, settings: FinetuneSettings, source: Source, folder: Path, watch: Watch) -> Shards:
    """Clean, split and pack a text as training does, every document of it however short."""
    config = TextConfig(source=text, validation=settings.validation, min_characters=1)
    with watch("reading and cleaning text") as on_progress:
        corpus = prepare_corpus(config, folder / "corpus", on_progress=on_progress)
    with watch("packing token ids") as on_progress:
        shards = build_shards(corpus, source.tokenizer, folder / "shards", on_progress=on_progress)
    context_length = source.config.max_position_embeddings
    if shards.train.num_tokens < context_length:
        raise UserError(
            f"{text} has {shards.train.num_tokens} tokens to train on, one window of the model takes {context_length}",
            fix="give more text, or hold out less of it with --validation",
        )
    return shards


def _held_out(shards: Shards) -> EncodedDocuments:
    held_out = shards.validation
    return EncodedDocuments(held_out.token_ids, held_out.num_text_bytes, shards.losses["validation"], [])


def _encoded(spec: str, source: Source) -> EncodedDocuments:
    """Encode the raw text of a source, as `evaluate` does."""
    encoded = encode_documents(source.tokenizer, read_texts(spec))
    if encoded.num_bytes == 0:
        raise UserError(f"there is no text in {spec} to measure on", fix="name another source with --keep")
    return encoded


def _measured(
    source: Source, texts: dict[str, EncodedDocuments], device: torch.device, on_progress: Progress | None
) -> dict[str, Evaluation]:
    """Measure a model on texts, in float32."""
    scorer = TorchScorer(build_model(source.config, source.tensors, origin="the model").to(device))
    return {
        name: measure(
            scorer,
            encoded.token_ids,
            num_bytes=encoded.num_bytes,
            eos_token_id=source.tokenizer.eos_token_id,
            losses=encoded.losses,
            on_progress=on_progress,
        )
        for name, encoded in texts.items()
    }


def _trained(
    base: Path, shards: Shards, settings: FinetuneSettings, device: torch.device, on_step: OnStep
) -> tuple[PeftModel, list[StepRecord], float]:
    """Return a model with its adapter trained, what each update came to, and the seconds that took."""
    model, began = adapted(base, settings, device), time.perf_counter()
    sequences = PackedSequences(shards.train, model.config.max_position_embeddings)
    records = train_adapter(model, sequences, settings, on_step=on_step)
    return model, records, time.perf_counter() - began


def _merge(source: Source, base: Path, staging: Staging, *, name: str) -> Source:
    """Write the model with its adapter added, once peft and transformers agree that it is the same.

    Raises:
        UserError: they do not.
    """
    opened = opened_with(base, staging.path / ADAPTER)
    question = make_question(source, staging.path / MERGED)
    with torch.inference_mode():
        theirs_PV = opened(input_ids=torch.tensor([question.window])).logits[0, question.positions].numpy()
    result = replace_fields(source, tensors=merged(opened, source.config))
    ours_PV = our_logits(result.config, result.tensors, question)
    limit = RELATIVE_LOGIT_LIMIT * max(1.0, float(np.abs(ours_PV).max()))
    largest = compare_logits(ours_PV, theirs_PV).max_logit_difference
    require_within("the largest logit difference of the merged weights", largest, limit, consumer="peft")
    folder = Staging(staging.path / MERGED)
    write_folder(folder, result, dtype="float32", name=name)
    prove(result, folder.path, dtype="float32")
    return result


def _name_of(model: str | Path) -> str:
    """Return what an adapter of a model says it belongs to."""
    return str(resolve_model(model)) if Path(model).exists() else str(model)
