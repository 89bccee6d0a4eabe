"""Every format that Stentor reads: a sound file, how it is damaged, and what may come of a damage that is not refused.

A format is one entry of `FORMATS`. Where no checksum covers a file, damage can leave a sound file of other content: a
weight, a setting, a letter. `may_differ` then says, from the bytes before and after alone, in which parts.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import rules
from damage import (
    OUTSIDE,
    PICKLED,
    Damaged,
    damaged_bytes,
    damaged_counts,
    damaged_json,
    damaged_safetensors,
    with_header,
)
from onnx_damage import boundaries as onnx_boundaries
from onnx_damage import damaged_onnx
from sealing import sealed

from stentor.artifacts import MANIFEST_NAME
from stentor.model.weight_index import INDEX_NAME

Damages = Callable[[bytes, Random, int], Iterator[Damaged]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One kind of file in one kind of folder.

    Attributes:
        name: in tables of results.
        folder: that is copied before the file is damaged, below the samples.
        file: that is damaged, below `folder`.
        door: that opens it, of `doors.DOORS`.
        opens: what the door is given, below `folder`.
        damages: beside those that any bytes can suffer.
        boundaries: where parts of the file begin.
        seal: of the folder's manifest after the damage: `kept`, `renewed` to fit what is damaged, or `none`.
        may_differ: of the bytes before and after, and the content before and after: whether that is harmless.
        any_bytes: whether the file also gets the damages that any bytes can suffer.
    """

    name: str
    folder: str
    file: str
    door: str
    opens: str = "."
    damages: Damages = lambda data, draw, count: iter(())
    boundaries: Callable[[bytes], list[int]] = lambda data: []
    seal: str = "none"
    may_differ: rules.Rule = rules.nothing
    any_bytes: bool = True

    def all_damages(self, samples: Path, siblings: Path, seed: int, count: int) -> Iterator[Damaged]:
        """Yield damaged files; the same seed gives the same ones."""
        draw = Random(f"{self.name} {seed}")
        data = (samples / self.folder / self.file).read_bytes()
        yield from self.damages(data, draw, count)
        if self.any_bytes:
            yield from damaged_bytes(data, draw, count, boundaries=self.boundaries(data))
            yield Damaged("swapped", (siblings / self.folder / self.file).read_bytes())
            for other in draw.sample(FORMATS, min(len(FORMATS), 1 + count)):
                found = (samples / other.folder / other.file).read_bytes()
                if found != data:
                    yield Damaged("swapped", found)


# --- damages that only one format can suffer ---


def _config(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_json(data, draw, count)
    table = json.loads(data)
    for key in draw.choices(
        [key for key in table if key.startswith(("num_", "vocab", "hidden_s", "head_dim"))], k=count
    ):
        yield Damaged("absurd count", json.dumps({**table, key: draw.choice([10**9, 1 << 40, -(1 << 63)])}).encode())


def _index(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_json(data, draw, count)
    table = json.loads(data)
    places = table["weight_map"]
    for name in draw.sample(OUTSIDE, min(len(OUTSIDE), 3 * count)):
        mapped = {tensor: name if draw.random() < 0.5 else file for tensor, file in places.items()}
        yield Damaged(
            "path traversal", json.dumps({**table, "weight_map": {**mapped, "model.norm.weight": name}}).encode()
        )
    files = sorted(set(places.values()))
    for tensor in draw.choices(sorted(places), k=count):
        other = next(file for file in files if file != places[tensor])
        yield Damaged("wrong place", json.dumps({**table, "weight_map": {**places, tensor: other}}).encode())
    missing = dict.fromkeys(places, "model-00003-of-00002.safetensors")
    yield Damaged("wrong place", json.dumps({**table, "weight_map": missing}).encode())


def _best(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_json(data, draw, count)
    for step in ("../../model", "/etc", "0000003", 4, 1 << 70, 3.5):
        yield Damaged("path traversal" if isinstance(step, str) else "wrong type", json.dumps({"step": step}).encode())


def _manifest(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    """Damage a manifest, and give it a seal that fits what it says now."""
    for kind, damaged in damaged_json(data, draw, count, keys=("files", "kind", "format", "details")):
        yield Damaged(kind, damaged)
        try:
            yield Damaged(kind, sealed(json.loads(damaged)))
        except (ValueError, RecursionError, TypeError):
            continue  # what cannot be sealed
    table = json.loads(data)
    for version in (0, 2, 10**6, "1"):
        yield Damaged("newer version", sealed({**table, "format": version}))
    entry = next(iter(table["files"].values()))
    for name in draw.sample(OUTSIDE, min(len(OUTSIDE), 3 * count)):
        yield Damaged("path traversal", sealed({**table, "files": {**table["files"], name: entry}}))


def _tokenizer(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_json(data, draw, count)
    yield from damaged_json(data, draw, count, keys=("added_tokens", "pre_tokenizer", "decoder"))
    for version in ("2.0", "0.0", 3):
        yield Damaged("newer version", json.dumps({**json.loads(data), "version": version}).encode())


def _shard(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    """Damage a shard's header, and give it a checksum that fits what it says now."""
    magic, version, length, _ = struct.unpack_from("<8sII32s", data)
    header = data[48 : 48 + length]
    for kind, damaged in damaged_json(header, draw, 2 * count):
        if len(damaged) <= 4096 - 48:
            yield Damaged(kind, _shard_with(data, magic, version, damaged))
    for odd in (0, 2, 1 << 31, (1 << 32) - 1):
        yield Damaged("newer version", _shard_with(data, magic, odd, header))
    for number in (4049, 1 << 31, (1 << 32) - 1, 0):
        yield Damaged("absurd count", data[:12] + struct.pack("<I", number) + data[16:])


def _shard_with(data: bytes, magic: bytes, version: int, header: bytes) -> bytes:
    fixed = struct.pack("<8sII32s", magic, version, len(header), hashlib.sha256(header).digest())
    return (fixed + header).ljust(4096, b"\0") + data[4096:]


def _gguf_places(data: bytes) -> dict[int, int]:
    """Return where a GGUF file has its counts, types, sizes and offsets, and how wide each is."""
    places = {4: 4, 8: 8, 16: 8, 24: 8}
    for key in (b"general.architecture", b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"):
        place = data.index(key) + len(key)
        places |= {place - len(key) - 8: 8, place: 4, place + 4: 4, place + 8: 8}
    for name in (b"output_norm.weight", b"token_embd.weight", b"blk.1.ffn_up.weight"):
        place = data.index(name) + len(name)
        width = 8 * struct.unpack_from("<I", data, place)[0]
        places |= {place - len(name) - 8: 8, place: 4, place + 4: 8, place + 4 + width: 4, place + 8 + width: 8}
    return places


def _gguf(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_counts(data, draw, 5 * count, _gguf_places(data))
    for version in (0, 1, 4, 3 << 24):
        yield Damaged("newer version", data[:4] + struct.pack("<I", version) + data[8:])
    one, other = (data.index(name) for name in (b"blk.0.ffn_up.weight", b"blk.1.ffn_up.weight"))
    length = len(b"blk.0.ffn_up.weight")
    yield Damaged("duplicate key", data[:other] + data[one : one + length] + data[other + length :])
    yield Damaged(
        "absurd count", b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 9, 1 << 60)
    )


def _vocab(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    places = {**dict.fromkeys((0, 1, 2, 3, 4, 5, 23), 1), **dict.fromkeys((8, 11, 14, 17, 20), 3)}
    yield from damaged_counts(data, draw, 3 * count, places)


def _yaml(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    lines = data.split(b"\n")
    odd = (b"-1", b"99999999999", b".nan", b"[]", b"!!python/object/apply:eval [1]", b"*a", b"&a [*a]", b"'", b"~")
    for _ in range(2 * count):
        place = draw.randrange(len(lines))
        key = lines[place].split(b": ")[0]
        yield Damaged("wrong type", b"\n".join([*lines[:place], key + b": " + draw.choice(odd), *lines[place + 1 :]]))
        yield Damaged("duplicate key", b"\n".join([*lines[:place], lines[place], *lines[place:]]))
    yield Damaged("deep nesting", data + b"\nx: " + b"[" * 100_000)


def _recipe(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    lines = [line for line in data.split(b"\n") if b" = " in line]
    odd = (b"-1", b"0", b"1e400", b"nan", b"inf", b"[]", b'"x"', b"{}", b"true", b"9" * 30, b"9" * 5000, b"1979-05-27")
    odd += (b"0x" + b"f" * 6000, b'"\\u0000"', b"[" * 100_000, b'"../../x"', b"1e18", b"9223372036854775807", b"0.5")
    for _ in range(6 * count):
        line = draw.choice(lines)
        key = line.split(b" = ")[0]
        yield Damaged("wrong type", data.replace(b"\n" + line + b"\n", b"\n" + key + b" = " + draw.choice(odd) + b"\n"))
    for line in draw.choices(lines, k=count):
        yield Damaged("duplicate key", data.replace(line, line + b"\n" + line))
        yield Damaged("newer version", data.replace(line, line.replace(b" =", b"_of_the_future =")))
        yield Damaged("missing field", data.replace(line, b""))


def _json_lines(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    lines = data.rstrip(b"\n").split(b"\n")
    for _ in range(count):
        place = draw.randrange(len(lines))
        for kind, damaged in damaged_json(lines[place], draw, 1):
            yield Damaged(kind, b"\n".join([*lines[:place], damaged, *lines[place + 1 :]]) + b"\n")


def _gz(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_counts(data, draw, count, {2: 1, 3: 1, len(data) - 4: 4})


def _zst(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_counts(data, draw, 2 * count, dict.fromkeys(range(4, 18), 1) | {5: 8})


def _parquet(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    yield from damaged_counts(data, draw, count, {len(data) - 8: 4})
    yield from damaged_counts(data, draw, 3 * count, dict.fromkeys(range(footer, len(data) - 8), 1))


def _safetensors_parts(data: bytes) -> list[int]:
    begin = 8 + int.from_bytes(data[:8], "little")
    return [8, begin, begin + 4096]


def _pickled_weights(data: bytes, draw: Random, count: int) -> Iterator[Damaged]:
    yield from damaged_safetensors(data, draw, count)
    yield Damaged("pickled", with_header(data, PICKLED))


_GGUF = [
    Format(
        name=f"{dtype}.gguf", folder="gguf", file=f"{dtype}.gguf", door="model", opens=f"{dtype}.gguf", damages=_gguf,
        boundaries=lambda data: sorted(_gguf_places(data)), may_differ=rules.gguf,
    )
    for dtype in ("q8_0", "float16", "q4_0")
]  # fmt: skip
_TEXT = [
    Format(
        name=name, folder="text", file=file, door="text", opens=file, damages=damages, may_differ=rules.text
    )
    for name, file, damages in (
        (".txt", "a.txt", lambda data, draw, count: iter(())),
        (".jsonl", "a.txt.jsonl", _json_lines),
        (".jsonl.gz", "a.jsonl.gz", _gz),
        (".jsonl.zst", "a.jsonl.zst", _zst),
        (".jsonl.zst of two frames", "b.jsonl.zst", _zst),
        (".parquet", "a.parquet", _parquet),
        (".parquet.zst", "a.parquet.zst", _zst),
    )
]  # fmt: skip
# generation_config.json is for transformers and its like: Stentor writes it, beside a graph too, and never reads it.
_ONNX = [
    Format(
        name=file, folder="onnx-bare", file=file, door="onnx", opens=file, damages=damaged_onnx,
        boundaries=onnx_boundaries, may_differ=rules.onnx,
    )
    for file in ("onnx/model.onnx", "onnx/model_quantized.onnx")
]  # fmt: skip
# Of a fine-tuning, only `merged/` is ever opened again. peft reads `adapter/` once, before its folder is sealed.
_SEALED = [
    Format(name=f"{folder}: {file}, sealed", folder=folder, file=file, door=door, opens=opens, seal="kept")
    for folder, file, door, opens in (
        ("model", "config.json", "model", "."),
        ("model", "generation_config.json", "model", "."),
        ("model", "model.safetensors", "model", "."),
        ("model", "tokenizer.json", "model", "."),
        ("model", "tokenizer_config.json", "model", "."),
        ("monster-model", "tokenmonster.vocab", "model", "."),
        ("onnx", "config.json", "onnx", "onnx"),
        ("onnx", "tokenizer.json", "onnx", "onnx"),
        ("onnx", "onnx/model.onnx", "onnx", "."),
        ("onnx", "onnx/model_quantized.onnx", "onnx", "onnx/model_quantized.onnx"),
        ("finetune", "merged/config.json", "model", "merged"),
        ("finetune", "merged/model.safetensors", "model", "merged"),
        ("finetune", "merged/tokenizer.json", "model", "merged"),
        ("shards", "train.bin", "shards", "."),
        ("corpus", "train.jsonl.zst", "corpus", "."),
    )
]
_CHECKPOINT = "run/checkpoints/step-0000003"
_STATE = f"{_CHECKPOINT}/training_state.safetensors"
FORMATS = [
    Format(name="config.json", folder="bare", file="config.json", door="model", damages=_config,
           may_differ=rules.config),
    Format(
        name="model.safetensors", folder="bare", file="model.safetensors", door="model", damages=_pickled_weights,
        boundaries=_safetensors_parts, may_differ=rules.safetensors,
    ),
    Format(name=INDEX_NAME, folder="spread", file=INDEX_NAME, door="model", damages=_index),
    Format(
        name="tokenizer.json", folder="bare", file="tokenizer.json", door="tokenizer", damages=_tokenizer,
        may_differ=rules.tokenizer,
    ),
    Format(
        name="tokenizer.json, unigram", folder="unigram", file="tokenizer.json", door="tokenizer", damages=_tokenizer,
        may_differ=rules.tokenizer,
    ),
    Format(
        name="tokenizer_config.json", folder="bare", file="tokenizer_config.json", door="tokenizer",
        damages=damaged_json, may_differ=rules.special_tokens,
    ),
    Format(
        name=".vocab", folder="monster", file="tokenmonster.vocab", door="tokenizer", damages=_vocab,
        may_differ=rules.tokenizer,
    ),
    Format(name="vocabulary in YAML", folder=".", file="monster.yaml", door="yaml", opens="monster.yaml", damages=_yaml,
           may_differ=rules.tokenizer),
    *_GGUF,
    *_ONNX,
    Format(name="onnx/model.onnx: config.json", folder="onnx-bare", file="config.json", door="onnx", damages=_config,
           may_differ=rules.config),
    *_SEALED,
    Format(name="manifest.json", folder="model", file=MANIFEST_NAME, door="model", damages=_manifest, seal="kept"),
    Format(name="shards: manifest.json", folder="shards", file=MANIFEST_NAME, door="shards", damages=_manifest,
           seal="kept", may_differ=rules.details),
    Format(name="shards: train.bin, sealed anew", folder="shards", file="train.bin", door="shards", damages=_shard,
           seal="renewed", any_bytes=False, may_differ=rules.details),
    Format(name="run: best.json", folder="run", file="best.json", door="model", damages=_best),
    Format(name="run: log.jsonl", folder="run", file="log.jsonl", door="log", opens="log.jsonl", damages=_json_lines,
           may_differ=rules.log),
    Format(name="run: checkpoint's state", folder=".", file=_STATE,
           door="checkpoint", opens="run", seal="kept"),
    Format(name="run: checkpoint's manifest", folder=".", file=f"{_CHECKPOINT}/{MANIFEST_NAME}",
           door="checkpoint", opens="run", seal="kept", damages=_manifest, may_differ=rules.details),
    Format(name="run: checkpoint's state, sealed anew", folder=".", file=_STATE,
           door="checkpoint", opens="run", seal="renewed", damages=damaged_safetensors, may_differ=rules.tensors),
    Format(name="recipe.toml", folder=".", file="recipe.toml", door="recipe", opens="recipe.toml", damages=_recipe,
           may_differ=rules.recipe),
    *_TEXT,
]  # fmt: skip
"""All that are tried by default."""

SLOW_FORMATS = [
    Format(name=f"transformers: {file}", folder=folder, file=file, door="transformers", damages=damages,
           may_differ=rules.in_transformers)
    for folder, file, damages in (
        ("bare", "config.json", damaged_json),
        ("bare", "model.safetensors", damaged_safetensors),
        ("spread", INDEX_NAME, _index),
        ("bare", "tokenizer.json", _tokenizer),
    )
]  # fmt: skip
"""Those that take a second each."""
