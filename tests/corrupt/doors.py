"""How each kind of file is opened, as users do it, and what is then inside: a digest of every part of it by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Content = dict[str, str]
ONNX_PROBES: list[tuple[list[int], int]] = [([1, 2], 0), ([3], 2)]
"""Tokens that a graph reads, and where they begin."""
PROBES = [b"The cat's HAT, 12 o'clock\n", "caf\u00e9 \u4e2d\u6587 \U0001f600".encode(), bytes(range(256)), b"\xff\xc3"]


def digest(value: Any) -> str:
    """Return a short fingerprint of an array, of bytes or of anything that JSON can hold."""
    if isinstance(value, np.ndarray):
        value = f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def open_model(path: Path) -> Content:
    """Read a model folder, a run or a .gguf file."""
    from stentor.model.quantized import as_float32
    from stentor.model.weights import read_weights

    read = read_weights(path)
    content = {f"config.{name}": repr(value) for name, value in read.config.to_dict().items()}
    for name, array in read.arrays.items():
        values = as_float32(array)
        assert np.isfinite(values).all(), f"{name} is not finite"
        content[name] = digest(values)
    return content | (_tokenizer_content(read.tokenizer) if read.tokenizer else {})


def open_tokenizer(path: Path) -> Content:
    """Load a tokenizer from its folder or its file."""
    from stentor.tokenizer import Tokenizer

    return _tokenizer_content(Tokenizer.load(path))


def _tokenizer_content(tokenizer: Any) -> Content:
    from stentor.tokenizer.library import LibraryTokenizer
    from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer

    ids = tokenizer.encode_batch(PROBES, num_threads=1)
    special = [tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id]
    content = {"tokenizer": tokenizer.sha256, "tokenizer.ids": digest(ids), "tokenizer.special": repr(special)}
    if isinstance(tokenizer, TokenMonsterTokenizer):
        assert _as_the_slow_twin(tokenizer.vocab) == ids, "the twins differ"
    elif isinstance(tokenizer, LibraryTokenizer):  # of a family of ours, which promises it
        assert [tokenizer.decode_bytes(one) for one in ids] == PROBES, "text does not come back"
    return content


def _as_the_slow_twin(vocab: Any) -> list[list[int]]:
    from stentor.tokenizer.tokenmonster.reference import Reference

    slow = Reference(vocab)
    return [list(slow.encode(probe)) for probe in PROBES]


def open_yaml(path: Path) -> Content:
    """Read the YAML form of a TokenMonster vocabulary."""
    from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab
    from stentor.tokenizer.tokenmonster.yaml_file import read_yaml

    vocab = read_yaml(path)
    return {"tokenizer": digest(pack_vocab(vocab)), "tokenizer.ids": digest(_as_the_slow_twin(vocab))}


def open_shards(path: Path) -> Content:
    """Open a folder of token ids and read all of them."""
    from stentor.shards.build import open_shards

    shards = open_shards(path)
    content = _tokenizer_content(shards.tokenizer)
    splits: tuple[tuple[Any, Any], ...] = (("train", shards.train), ("validation", shards.validation))
    for name, shard in splits:
        ids, starts = np.array(shard.token_ids), np.array(shard.document_starts)
        assert int(ids.max()) < shard.vocab_size, "an id beyond the vocabulary"
        content |= {f"{name}.ids": digest(ids), f"{name}.starts": digest(starts), f"{name}.header": repr(shard.header)}
        content[f"{name}.losses"] = repr(shards.losses[name])
    return content


def open_corpus(path: Path) -> Content:
    """Open a corpus and read all of its documents."""
    from stentor.text.corpus import open_corpus

    corpus = open_corpus(path)
    splits: tuple[Any, ...] = ("train", "validation")
    return {split: digest([(d.id, d.source, d.text) for d in corpus.documents(split)]) for split in splits} | {
        "sha256": corpus.sha256
    }


def open_checkpoint(run_dir: Path) -> Content:
    """Go on with a run: find its newest checkpoint and put all of it into a network and its step."""
    import torch

    from stentor.config import Recipe
    from stentor.model.folder import read_model_folder
    from stentor.train.build import make_model, make_step
    from stentor.train.checkpoint import load_latest, restore

    recipe = Recipe.load(run_dir.with_name("recipe.toml"))
    found = load_latest(run_dir, on_note=lambda note: None)
    assert found, "no checkpoint"
    folder, state = found
    model = make_model(recipe, torch.device("cpu"))
    step = make_step(model, None, recipe, eos_token_id=0)
    restore(folder, model, step, None)
    tensors = {**model.state_dict(), **{f"state.{name}": tensor for name, tensor in step.state().items()}}
    content = {name: digest(tensor.float().numpy()) for name, tensor in tensors.items()}
    tokenizer = read_model_folder(folder).require_tokenizer()
    return content | {"state": repr(state), "folder": folder.name} | _tokenizer_content(tokenizer)


def open_recipe(path: Path) -> Content:
    """Load a recipe."""
    from dataclasses import asdict

    from stentor.config import Recipe

    recipe = Recipe.load(path)
    assert Recipe.load(path) == recipe
    table = asdict(recipe)
    sections = {section: table.pop(section) for section in ("text", "tokenizer", "model", "train")}
    flat = {f"{section}.{key}": value for section, fields in sections.items() for key, value in fields.items()}
    return {key: repr(value) for key, value in (table | flat).items()}


def open_log(path: Path) -> Content:
    """Read a run's log, and use all that comparisons and reports make of it."""
    from stentor.report.results import result_rows
    from stentor.report.run_log import read_log, series
    from stentor.report.runs import ComparedRun
    from stentor.train.log import records_of

    log = read_log(path)
    json.dumps(ComparedRun("run", path.parent, {}, log).to_dict())
    for name in ("loss_nats", "lr", "grad_norm", "tokens_per_second"):
        series(log.train, name, along="tokens_seen")
    if log.evaluations:
        list(result_rows(log))
    assert all(isinstance(record, dict) for record in records_of(path.parent))
    kinds = {"train": log.train, "evaluation": log.evaluations, "start": log.starts}
    return {f"{kind} {record['step']}": digest(record) for kind, found in kinds.items() for record in found}


def open_text(path: Path) -> Content:
    """Read the documents of a text file."""
    return {name: digest(text) for name, text in _texts(path)}


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    from stentor.text.document import Tally
    from stentor.text.readers import read_documents

    for number, document in enumerate(read_documents(path, path.name, Tally())):
        document.text.encode()
        yield f"{number} {document.id}", document.text


def open_in_transformers(path: Path) -> Content:
    """Open a folder with transformers, as `transformers:PATH` does."""
    from stentor.runtime.open import open_network

    network, tokenizer, _ = open_network(
        f"transformers:{path}", dtype="float32", cache_dtype="float32", num_threads=1, device="cpu"
    )
    logits = network.extend([1, 2, 3], 0, all_scored=True)
    assert np.isfinite(logits).all(), "a logit is not finite"
    return {"logits": digest(logits)} | _tokenizer_content(tokenizer)


def open_onnx(path: Path) -> Content:
    """Open a graph with onnxruntime, as `generate` does, and let it read a few tokens and one more."""
    from stentor.runtime.engine import load

    model = load(path, num_threads=1)
    network = model.network.fresh()
    logits_KV = np.concatenate([network.extend(ids, start, all_scored=True) for ids, start in ONNX_PROBES])
    content = {f"config.{name}": repr(value) for name, value in network.config.to_dict().items()}
    return content | {"logits": json.dumps(logits_KV.tolist())} | _tokenizer_content(model.tokenizer)


DOORS: dict[str, Callable[[Path], Content]] = {
    "model": open_model,
    "tokenizer": open_tokenizer,
    "yaml": open_yaml,
    "shards": open_shards,
    "corpus": open_corpus,
    "checkpoint": open_checkpoint,
    "recipe": open_recipe,
    "log": open_log,
    "text": open_text,
    "transformers": open_in_transformers,
    "onnx": open_onnx,
}
