"""A recipe: everything that decides a model, in one frozen record read from one TOML file.

`Recipe.load("tiny", overrides=["train.lr=2e-3"])` reads a published recipe or a path, applies overrides and
refuses what it does not know. The resolved recipe is written beside every run, and its hash names its results.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from stentor.errors import UserError, nearest_name
from stentor.model.config import ModelConfig, padded_vocab_size
from stentor.model.presets import preset

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
FLOAT32_PARTS = ("none", "embedding", "ends")
INITIALIZERS = ("normal", "truncated_normal", "scaled", "teacher")
OPTIMIZERS, SCHEDULES, QUANTIZERS = ("adamw", "muon"), ("cosine", "linear"), ("none", "int8")
TOKENIZER_KINDS = ("bpe", "tokenmonster", "unigram")
TOKENMONSTER_MODES = ("unfiltered", "clean", "balanced", "consistent", "strict")
MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = 259, 65_536
_FILE_NAME = re.compile(r"[\w-][\w .+-]*")
_TYPE_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
_RANGES: dict[str, Callable[[float], bool]] = {
    "above zero": lambda value: value > 0,
    "zero or above": lambda value: value >= 0,
    "zero or above, and below one": lambda value: 0 <= value < 1,
    "below 2**63": lambda value: value < 1 << 63,
    "from zero to one": lambda value: 0 <= value <= 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Where documents come from and what is kept of them.

    Attributes:
        source: a source specification, see docs/text.md; `builtin:docs` needs no download.
        validation: `take:N` (first N documents), `hash:FRACTION`, or `file:SPEC` (a source of its own).
        min_characters: shorter documents are dropped after cleaning.
        max_bytes: stop after this many bytes of kept training text; 0 reads everything.
    """

    source: str = "builtin:docs"
    validation: str = "hash:0.02"
    min_characters: int = 200
    max_bytes: int = 0

    def __post_init__(self) -> None:
        _require_range("text", self, "zero or above", "min_characters", "max_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """Which vocabulary to use.

    Attributes:
        path: an existing tokenizer (folder or file); empty trains one on the corpus.
        kind: of the one to train: `bpe` (byte-level), `tokenmonster`, or `unigram` (the fewest tokens).
        vocab_size: tokens in all, the 3 special ones among them, whatever the kind.
        train_bytes: bytes of the corpus to learn from.
        mode: of TokenMonster: which substrings may be tokens.
        capcode: of TokenMonster: how capitals and missing spaces are spelt out.
        is_thorough: whether a search for tokens (TokenMonster, unigram) takes its time.
    """

    path: str = ""
    kind: str = "bpe"
    vocab_size: int = 8000
    train_bytes: int = 100_000_000
    mode: str = "balanced"
    capcode: int = 2
    is_thorough: bool = False

    def __post_init__(self) -> None:
        _require_range("tokenizer", self, "above zero", "vocab_size", "train_bytes")
        _require_one_of("tokenizer.kind", self.kind, TOKENIZER_KINDS)
        _require_one_of("tokenizer.mode", self.mode, TOKENMONSTER_MODES)
        if self.capcode not in (0, 1, 2):
            raise UserError(f"tokenizer.capcode is {self.capcode}", fix="use 0, 1 or 2")
        if not self.path and not MIN_VOCAB_SIZE <= self.vocab_size <= MAX_VOCAB_SIZE:
            raise UserError(
                f"tokenizer.vocab_size is {self.vocab_size}",
                fix=f"use {MIN_VOCAB_SIZE} (256 bytes and 3 special tokens) to {MAX_VOCAB_SIZE} (ids are two bytes)",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How the weights are learned.

    Attributes:
        tokens: tokens to process in all; a multiple of the context length. The last step may be smaller.
        global_batch_tokens: tokens per optimizer step.
        micro_batch_size: sequences per forward pass; their gradients are accumulated to the global batch.
        optimizer: `adamw` for everything, or `muon` for the matrices of layers and AdamW for the rest.
        lr: AdamW's peak learning rate; reached after `warmup_steps`, then decayed to `min_lr_ratio` of it.
        embedding_lr: the embedding's (and an untied head's) own; 0 is `lr`.
        matrix_lr: Muon's.
        momentum: Muon's, after its warmup.
        schedule: `cosine`, or `linear`: constant, then a straight line over the last `decay_ratio` of the steps.
        weight_decay: on the matrices of layers; `embedding_weight_decay` on the embedding and the head.
        average_decay: an exponential mean of the weights is what is measured and kept; 0 keeps the weights themselves.
        eval_every: steps between evaluations on the held-out shard.
        save_every: steps between checkpoints.
        precision: of products: `auto` is bfloat16 where the device multiplies it natively, float16 on older GPUs,
            float32 elsewhere. With float16 the loss is scaled, up and down as gradients allow.
        float32_parts: what keeps float32 all the same: `none`; `embedding`: that, the head, norms and the sums that
            layers add to; `ends`: the first and last layer too.
        fake_quantize: `int8` rounds the matrices of layers in the forward pass, as INT8 files will.
        learns_norms: whether the gains of norms are trained, or stay as they begin.
        deterministic: use only kernels whose results never vary from run to run, at some cost on a GPU.
        mask_across_documents: keep attention within a document; off, as in the reference.
        initializer: `normal` and `truncated_normal` as the reference, `scaled` for Muon; with `teacher` the model
            begins as a part of its first teacher.
        teachers: models to learn from, of the same tokens: run folders, model folders, .gguf files or Hub ids.
        teacher_share: of the loss that is taken against the teachers' expectations, the rest against the text.
        expectations_kept: tokens that stand for what the teachers expect at a place (a multiple of 4): they are asked
            once, before the run; with 0 they read every batch anew, and are heard exactly.
    """

    tokens: int = 240_001_024
    global_batch_tokens: int = 16_384
    micro_batch_size: int = 8
    optimizer: str = "adamw"
    lr: float = 1e-3
    embedding_lr: float = 0.0
    matrix_lr: float = 0.02
    momentum: float = 0.95
    schedule: str = "cosine"
    warmup_steps: int = 200
    decay_ratio: float = 0.7
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.1
    embedding_weight_decay: float = 0.1
    average_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    eval_every: int = 375
    save_every: int = 375
    precision: str = "auto"
    float32_parts: str = "none"
    fake_quantize: str = "none"
    learns_norms: bool = True
    deterministic: bool = False
    initializer: str = "normal"
    mask_across_documents: bool = False
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.5
    expectations_kept: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        _require_one_of("train.precision", self.precision, PRECISIONS)
        _require_one_of("train.float32_parts", self.float32_parts, FLOAT32_PARTS)
        _require_one_of("train.initializer", self.initializer, INITIALIZERS)
        _require_one_of("train.optimizer", self.optimizer, OPTIMIZERS)
        _require_one_of("train.schedule", self.schedule, SCHEDULES)
        _require_one_of("train.fake_quantize", self.fake_quantize, QUANTIZERS)
        counts = ("tokens", "global_batch_tokens", "micro_batch_size", "eval_every", "save_every")
        _require_range("train", self, "above zero", *counts, "lr", "matrix_lr", "epsilon", "max_grad_norm")
        decays, unsigned = ("weight_decay", "embedding_weight_decay"), ("warmup_steps", "expectations_kept", "seed")
        _require_range("train", self, "zero or above", "embedding_lr", *decays, *unsigned)
        _require_range("train", self, "zero or above, and below one", "beta1", "beta2", "momentum", "average_decay")
        _require_range("train", self, "from zero to one", "min_lr_ratio", "decay_ratio", "teacher_share")
        _require_range("train", self, "below 2**63", "seed")
        if self.expectations_kept % 4:
            raise UserError(
                f"train.expectations_kept is {self.expectations_kept}, not a multiple of 4",
                fix="use 32, or 0 to let the teachers read every batch anew",
            )
        if self.initializer == "teacher" and not self.teachers:
            raise UserError(
                "train.initializer is 'teacher', but train.teachers names none",
                fix="name a teacher, or learn alone from --set train.initializer=scaled",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The whole of a model's making: text, tokenizer, shape and training."""

    name: str
    description: str = ""
    text: TextConfig = field(default_factory=TextConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.name):
            raise UserError(
                f"the recipe's name {self.name!r} cannot name its folders",
                fix="use letters, digits, spaces, and the signs - _ + . (not in front)",
            )
        train, context_length = self.train, self.model.max_position_embeddings
        for name in ("tokens", "global_batch_tokens"):
            value = getattr(train, name)
            if value % context_length:
                above = -(-value // context_length) * context_length
                raise UserError(
                    f"train.{name} is {value}, not a multiple of the context length {context_length}",
                    fix=f"use {above}",
                )
        needed = padded_vocab_size(self.tokenizer.vocab_size)
        if not self.tokenizer.path and self.model.vocab_size < self.tokenizer.vocab_size:
            raise UserError(
                f"{self.tokenizer.vocab_size} tokens do not fit model.vocab_size {self.model.vocab_size}",
                fix=f"set model.vocab_size to {needed}, or lower tokenizer.vocab_size",
            )

    @classmethod
    def load(cls, name_or_path: str | Path, *, overrides: Iterable[str] | dict[str, Any] = ()) -> Recipe:
        """Read a published recipe by name, or a TOML file by path.

        Args:
            name_or_path: `tiny`, `stentor2-12m`, ... or a file that ends in .toml.
            overrides: `["train.lr=2e-3"]` or `{"train.lr": 2e-3}`.

        Raises:
            UserError: no such recipe, a key it does not know (the nearest is suggested), a value of the wrong type.
        """
        table = _read_toml(name_or_path)
        for key, value in _parse_overrides(overrides):
            _set(table, key, value)
        return cls.from_table(table)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> Recipe:
        """Build a recipe from nested dictionaries as TOML gives them."""
        table = dict(table)
        sections: dict[str, Any] = {
            "text": _section(TextConfig(), table.pop("text", {}), "text"),
            "tokenizer": _section(TokenizerConfig(), table.pop("tokenizer", {}), "tokenizer"),
            "model": _model(table.pop("model", {})),
            "train": _section(TrainConfig(), table.pop("train", {}), "train"),
        }
        names = {f.name for f in fields(cls)}
        for key in table:
            if key not in names:
                raise UserError(f"the recipe has an unknown key {key!r}", fix=nearest_name(key, names))
        if not table.get("name"):
            raise UserError("the recipe has no name", fix='add a line such as: name = "my-model"')
        texts = {key: _converted(key, value, str) for key, value in table.items()}
        return cls(**texts, **sections)

    def to_toml(self) -> str:
        """Return the resolved recipe, every default written out, as TOML that `load` reads back."""
        lines = [f"name = {_quoted(self.name)}", f"description = {_quoted(self.description)}"]
        for section in ("text", "tokenizer", "model", "train"):
            lines += ["", f"[{section}]"]
            lines += [f"{key} = {_quoted(value)}" for key, value in asdict(getattr(self, section)).items()]
        return "\n".join(lines) + "\n"

    def hash(self) -> str:
        """Return the SHA-256 of the resolved recipe."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()


def published_recipes() -> list[str]:
    """Return the names of the recipes that ship with Stentor."""
    return sorted(p.name[:-5] for p in resources.files("stentor.recipes").iterdir() if p.name.endswith(".toml"))


def _read_toml(name_or_path: str | Path) -> dict[str, Any]:
    text = str(name_or_path)
    if not text.endswith(".toml"):
        if text not in published_recipes():
            raise UserError(
                f"no recipe named {text!r}",
                fix=f"{nearest_name(text, published_recipes())}; a file ends in .toml",
            )
        text_of_recipe = resources.files("stentor.recipes").joinpath(f"{text}.toml").read_text(encoding="utf-8")
        return tomllib.loads(text_of_recipe)
    try:
        return tomllib.loads(Path(text).read_text(encoding="utf-8-sig"))  # Windows editors write a mark
    except FileNotFoundError:
        raise UserError(f"no recipe file {text}", fix="check the path, or name a published recipe") from None
    except OSError as error:
        raise UserError(f"the recipe {text} cannot be read ({error.strerror})", fix="check the path") from None
    except (ValueError, RecursionError) as error:  # also of UTF-8, and of a number of thousands of digits
        raise UserError(f"{text} is not valid TOML: {error}", fix="mend that line") from None


def _parse_overrides(overrides: Iterable[str] | dict[str, Any]) -> Iterable[tuple[str, Any]]:
    if isinstance(overrides, dict):
        yield from overrides.items()
        return
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise UserError(f"the override {override!r} is not KEY=VALUE", fix="write it like train.lr=2e-3")
        yield key.strip(), _parse_value(value.strip())


def _parse_value(text: str) -> Any:
    """Read a TOML value; anything that is none is taken as a string, so paths need no quotes."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text


def _set(table: dict[str, Any], dotted_key: str, value: Any) -> None:
    *parents, last = dotted_key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UserError(f"{dotted_key!r} is not a key of a recipe", fix="write it like train.lr=2e-3")
    table[last] = value


def _model(table: Any) -> ModelConfig:
    table = dict(_require_table(table, "model"))
    base = preset(_converted("model.preset", table.pop("preset"), str)) if "preset" in table else ModelConfig()
    return _section(base, table, "model")


def _section(base: Any, table: Any, section: str) -> Any:
    """Replace fields of `base` by those of a TOML table, checking names and types."""
    known = {f.name: type(getattr(base, f.name)) for f in fields(base)}
    values = {}
    for key, value in _require_table(table, section).items():
        if key not in known:
            raise UserError(f"the recipe has an unknown key {section}.{key}", fix=nearest_name(key, known))
        values[key] = _converted(f"{section}.{key}", value, known[key])
    return replace(base, **values)


def _require_table(value: Any, section: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(
            f"{section} is a section of the recipe, not a value", fix=f"write [{section}] and its keys below"
        )
    return value


def _converted(key: str, value: Any, wanted: type) -> Any:
    """Accept a value of the wanted type, 1e6 where a whole number is wanted, and one name where several may stand."""
    if wanted is tuple:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
            raise UserError(f"{key} is {value!r}, not a list of names", fix='write it like ["a", "b"]')
        return tuple(_converted(key, name, str) for name in names)
    if type(value) is int and abs(value) >= 1 << 64:
        raise UserError(f"{key} is a number beyond 64 bits", fix=f"give {_TYPE_NAMES[wanted]} that fits")
    if wanted is float and type(value) is int:
        return float(value)
    if wanted is int and type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not wanted:
        raise UserError(f"{key} is {value!r}, not {_TYPE_NAMES[wanted]}", fix=f"give {_TYPE_NAMES[wanted]}")
    if wanted is float and not math.isfinite(value):
        raise UserError(f"{key} is {value}", fix="give a finite number")
    if isinstance(value, str) and not _is_utf8(value):
        raise UserError(f"{key} is {value!r}, which is not valid UTF-8", fix="use other characters")
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_range(section: str, config: Any, range_name: str, *names: str) -> None:
    for name in names:
        if not _RANGES[range_name](value := getattr(config, name)):
            raise UserError(f"{section}.{name} is {value}", fix=f"use a number {range_name}")


def _require_one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{key} is {value!r}", fix=nearest_name(value, known))


def _quoted(value: str | float | bool | tuple[str, ...]) -> str:
    """Write a value as TOML: JSON's strings, numbers, booleans and lists are TOML's too, but for one raw character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
