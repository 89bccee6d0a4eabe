"""What a card is about: a model on disk, and the run that made it where that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stentor.artifacts import MANIFEST_NAME, read_manifest, sha256_of_file
from stentor.errors import UserError
from stentor.model.config import ModelConfig
from stentor.model.config_file import parse_config
from stentor.model.locate import BEST_NAME, CONFIG_NAME, WEIGHTS_NAME
from stentor.model.weights import read_weights
from stentor.report.card.about import About
from stentor.report.card.results import RESULTS_NAME, Results
from stentor.report.runs import RECIPE_NAME, ComparedRun, open_run
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.train.log import LOG_NAME

CARD_NAME = "README.md"
_SHIPPED = (".safetensors", ".gguf", ".onnx", ".vocab", ".json")


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file of the model: its name in the folder, and what tells it from every other."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and its run.

    Attributes:
        folder: which the card is written into.
        origin: the model folder, or the .gguf file.
        config: its sizes.
        tokenizer: its own.
        files: that make it up, by name.
        run: which made it; None where that is not known.
    """

    folder: Path
    origin: Path
    config: ModelConfig
    tokenizer: Tokenizer
    files: tuple[ShippedFile, ...]
    run: ComparedRun | None

    @property
    def num_embedding_parameters(self) -> int:
        """Values of the tables of tokens: the embedding, and the head where it is not the same."""
        return self.config.vocab_size * self.config.hidden_size * (1 if self.config.tie_word_embeddings else 2)

    @property
    def is_tokenmonster(self) -> bool:
        """Whether the tokenizer is one that transformers opens after `import stentor.hf` alone."""
        return isinstance(self.tokenizer, TokenMonsterTokenizer)

    @property
    def export(self) -> dict[str, Any]:
        """What an export wrote down of its own proof; empty for a folder that none made."""
        if not (self.folder / MANIFEST_NAME).is_file():
            return {}
        found = read_manifest(self.folder).details.get("export")
        return found if isinstance(found, dict) else {}

    def named(self, suffix: str) -> list[ShippedFile]:
        """Return the files with an ending."""
        return [file for file in self.files if file.name.endswith(suffix)]


@dataclass(frozen=True, slots=True)
class Material:
    """All that a card is made of."""

    subject: Subject
    about: About
    results: Results

    @property
    def name(self) -> str:
        """What people call the model."""
        run = self.subject.run
        recipe = run.settings.get("name") if run else None
        return self.about.name or recipe or self.subject.folder.absolute().name

    @property
    def place(self) -> str:
        """What the commands on the card call it: its id on the Hub, or its folder."""
        return self.about.repo or self.subject.folder.absolute().name

    @property
    def plain_folder(self) -> str:
        """The same for programs that know no run folders: of a run, its best checkpoint."""
        subject = self.subject
        inside = subject.origin.relative_to(subject.folder) if subject.origin.is_dir() else Path()
        return self.about.repo or (Path(self.place) / inside).as_posix()


def open_subject(folder: Path, *, run_dir: Path | None) -> Subject:
    """Read a model that gets a card.

    Args:
        folder: a model folder, or a run folder, which stands for its best checkpoint.
        run_dir: the run that made a model folder; None where the folder is a run itself, or that is not known.

    Raises:
        UserError: there is no model in it, or the run made a model of other sizes.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", fix="name a run folder or a model folder on this machine")
    origin, config, tokenizer = _read(folder)
    if run_dir is None and (folder / LOG_NAME).is_file() and (folder / RECIPE_NAME).is_file():
        run_dir = folder
    run = None if run_dir is None else open_run(run_dir.absolute().name, run_dir)
    if run is not None:
        _require_same(run, config, tokenizer, folder)
    files = tuple(
        ShippedFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of_file(path))
        for path in sorted(_files(folder, origin, tokenizer))
    )
    return Subject(folder, origin, config, tokenizer, files, run)


def _read(folder: Path) -> tuple[Path, ModelConfig, Tokenizer]:
    """Read a model, every weight of it; of a folder with graphs for onnxruntime alone what stands beside them."""
    is_graph = (folder / "onnx").is_dir() and not (folder / WEIGHTS_NAME).exists()
    if is_graph and (folder / CONFIG_NAME).is_file() and Tokenizer.is_in(folder):
        return folder, parse_config(folder / CONFIG_NAME), Tokenizer.load(folder)
    weights = read_weights(folder)
    return weights.origin, weights.config, weights.require_tokenizer()


def _files(folder: Path, origin: Path, tokenizer: Tokenizer) -> Iterator[Path]:
    """Yield what the model is made of: of a run the files of its best checkpoint that a reader opens."""
    if (folder / BEST_NAME).is_file():
        names = [CONFIG_NAME, "generation_config.json", WEIGHTS_NAME, *tokenizer.files()]
        yield from (path for name in names if (path := origin / name).is_file())
        return
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        is_ours = any(part.startswith(".") for part in parts) or parts[0] == RESULTS_NAME or path.name == MANIFEST_NAME
        if path.is_file() and path.suffix in _SHIPPED and not is_ours:
            yield path


def _require_same(run: ComparedRun, config: ModelConfig, tokenizer: Tokenizer, folder: Path) -> None:
    """Refuse a run that cannot have made a model."""
    refuse = partial(UserError, fix=f"name the run that made {folder}")
    for name, value in config.to_dict().items():
        said = run.settings.get(f"model.{name}", value)
        if said != value:
            raise refuse(f"the run {run.path} has model.{name} {said}, the model in {folder} has {value}")
    said = run.start.get("tokenizer_sha256", tokenizer.sha256)
    if said != tokenizer.sha256:
        raise refuse(f"the run {run.path} had another tokenizer than the model in {folder}")
