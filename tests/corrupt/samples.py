"""Sound files of every format that Stentor reads, small enough to open in milliseconds, and a sibling of each."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pyarrow
import pyarrow.parquet
import torch
import zstandard
from safetensors.torch import load_file, save_file

from stentor.artifacts import MANIFEST_NAME, Staging, staged_directory
from stentor.config import Recipe, TextConfig, TokenizerConfig, TrainConfig
from stentor.export.gguf_file import write_gguf
from stentor.export.onnx_graph import build_onnx
from stentor.export.onnx_quantize import quantize_onnx_int8
from stentor.model.config import ModelConfig
from stentor.model.folder import write_model_folder, write_settings
from stentor.model.names import expected_shapes
from stentor.model.weight_index import INDEX_NAME
from stentor.shards.build import build_shards
from stentor.text.corpus import prepare_corpus
from stentor.text.document import Document
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.bpe import train_bpe
from stentor.tokenizer.library import SpecialTokens
from stentor.tokenizer.tokenmonster.build import build_vocab, numbered
from stentor.tokenizer.tokenmonster.tokenizer import TokenMonsterTokenizer
from stentor.tokenizer.tokenmonster.vocab_file import Settings
from stentor.tokenizer.tokenmonster.yaml_file import write_yaml
from stentor.tokenizer.unigram_file import write_unigram_file
from stentor.train.build import make_model, make_step
from stentor.train.checkpoint import TrainingState, save_checkpoint

WORDS = [
    "the",
    "a",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "from",
    "have",
    "or",
    "by",
    "one",
    "had",
    "not",
]
CONFIG = ModelConfig(
    vocab_size=384,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
    max_position_embeddings=32,
)
RECIPE = Recipe(
    name="sample",
    tokenizer=TokenizerConfig(vocab_size=320),
    model=CONFIG,
    train=TrainConfig(tokens=40 * 32, global_batch_tokens=8 * 32, micro_batch_size=4, warmup_steps=1),
)


def make_samples(root: Path, *, seed: int = 0) -> Path:
    """Write one sound artifact of each kind below a folder; another seed gives siblings: the same kinds, other content.

    Returns:
        The folder.
    """
    draw = Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=60)).capitalize() + ".\n" for _ in range(60)]
    bpe, monster = train_bpe(texts, vocab_size=320), _tokenmonster(seed)
    config = CONFIG if seed == 0 else replace(CONFIG, num_hidden_layers=3, intermediate_size=96)
    _write_models(root, config, bpe, monster, seed)
    (root / "unigram").mkdir()
    tokens = [bytes([byte]) for byte in range(256)] + [f" {word}".encode() for word in WORDS[seed:] if len(word) > 1]
    (root / "unigram" / "tokenizer.json").write_bytes(write_unigram_file(tokens, [SpecialTokens().eos]))
    bpe.save(root / "bpe")
    monster.save(root / "monster")
    write_yaml(root / "monster.yaml", monster.vocab)
    _write_text(root / "text", texts)
    source = TextConfig(source=str(root / "text" / "a.txt.jsonl"), validation="take:5")
    prepare_corpus(source, root / "corpus")
    documents = {"train": texts[:40], "validation": texts[40:]}
    build_shards(
        lambda split: [Document(text, str(index), split) for index, text in enumerate(documents[split])],
        bpe,
        root / "shards",
        num_workers=1,
    )
    _write_run(root / "run", bpe, seed)
    (root / "recipe.toml").write_text(replace(RECIPE, name=f"sample{seed}").to_toml(), encoding="utf-8")
    return root


def unsealed(folder: Path, destination: Path) -> Path:
    """Copy a folder without its manifest, as other programs make folders."""
    shutil.copytree(folder, destination)
    (destination / MANIFEST_NAME).unlink()
    return destination


def _write_models(root: Path, config: ModelConfig, bpe: Tokenizer, monster: Tokenizer, seed: int) -> None:
    generator = np.random.default_rng(seed)
    arrays = {
        name: (0.1 * generator.standard_normal(shape)).astype(np.float32)
        for name, shape in expected_shapes(config).items()
    }
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    for name, tokenizer in (("model", bpe), ("monster-model", monster)):
        with staged_directory(root / name, kind="model") as staging:
            write_model_folder(staging, config, tensors, tokenizer)
    unsealed(root / "model", root / "bare")
    unsealed(root / "model", root / "spread")
    _spread(root / "spread")
    with staged_directory(root / "finetune", kind="finetune") as staging:
        write_model_folder(Staging(staging.path / "merged"), config, tensors, bpe)
    with staged_directory(root / "onnx", kind="model") as staging:
        write_settings(staging, config, bpe)
        staging.write("onnx/model.onnx", build_onnx(config, arrays).SerializeToString())
        quantize_onnx_int8(*(staging.path / "onnx" / name for name in ("model.onnx", "model_quantized.onnx")))
    unsealed(root / "onnx", root / "onnx-bare")
    (root / "gguf").mkdir()
    for dtype in ("q8_0", "float16", "q4_0"):
        write_gguf(root / "gguf" / f"{dtype}.gguf", config, arrays, bpe, dtype=dtype, name="sample")


def _spread(folder: Path) -> None:
    """Put a folder's weights into two files and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places: dict[str, str] = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(names, file)
    body = {"metadata": {"total_size": 4 * sum(t.numel() for t in tensors.values())}, "weight_map": places}
    (folder / INDEX_NAME).write_text(json.dumps(body, indent=2), encoding="utf-8")


def _tokenmonster(seed: int) -> TokenMonsterTokenizer:
    singles = [
        bytes([byte]) for byte in (*b"\n\t", *range(0x20, 0x41), *range(0x5B, 0x7F), *range(0x80, 0xC0), 67, 68, 87)
    ]
    words = [f" {word}".encode() for word in WORDS[seed:]]
    return TokenMonsterTokenizer(build_vocab(numbered(dict.fromkeys([*singles, *words], 0.0)), Settings()))


def _write_text(folder: Path, texts: list[str]) -> None:
    folder.mkdir()
    lines = b"".join(json.dumps({"text": text, "id": f"d{n}"}).encode() + b"\n" for n, text in enumerate(texts))
    files = {
        "a.txt": "".join(texts).encode(),
        "a.txt.jsonl": lines,
        "a.jsonl.gz": gzip.compress(lines, mtime=0),
        "a.jsonl.zst": zstandard.ZstdCompressor(write_checksum=True).compress(lines),
        "b.jsonl.zst": zstandard.compress(lines[:2000]) + zstandard.compress(lines[2000:]),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    table = pyarrow.table({"text": texts, "id": [f"d{n}" for n in range(len(texts))]})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=20)
    (folder / "a.parquet.zst").write_bytes(zstandard.compress((folder / "a.parquet").read_bytes()))


def _write_run(run: Path, tokenizer: Tokenizer, seed: int) -> None:
    """Write a run of one checkpoint, after no more than a beginning."""
    torch.manual_seed(seed)
    model = make_model(RECIPE, torch.device("cpu"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.05)
    state = TrainingState(data_sha256="ab" * 32, step=3, tokens_seen=768, best_step=3, best_loss_nats=5.5)
    save_checkpoint(run, model, make_step(model, None, RECIPE, eos_token_id=0), None, state, tokenizer)
    (run / "log.jsonl").write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in _log(seed)))


def _log(seed: int) -> list[dict[str, object]]:
    start = {"kind": "start", "step": 0, "num_parameters": 1000, "flops_per_token": 5e4, "peak_flops": None}
    train = [
        {
            "kind": "train", "step": step, "tokens_seen": 256 * step, "loss_nats": 6 - 0.1 * step - seed, "lr": 1e-3,
            "grad_norm": 1.0, "seconds": 0.01, "tokens_per_second": 25_600.0,
        }
        for step in range(1, 12)
    ]  # fmt: skip
    evaluations = [
        {
            "kind": "evaluation", "step": step, "tokens_seen": 256 * step, "loss_nats": 5.5, "perplexity": 244.7,
            "bits_per_byte": 2.5, "num_tokens": 100, "num_bytes": 320, "accuracy": 0.1, "num_predicted": 99,
        }
        for step in (4, 8)
    ]  # fmt: skip
    return [start, *train[:4], evaluations[0], *train[4:8], evaluations[1], *train[8:]]
