"""Small things under the names that the documentation uses, so that its commands run in seconds as they are written.

A text, a model and a budget are small; the commands are the real ones. A script named `stentor` in front of the PATH
gives `train`, `prepare` and `demo` the settings below, before those of the page, which win.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

SMALL = {
    "text.source": "my-texts",
    "text.validation": "take:9",
    "text.min_characters": 20,
    "tokenizer.vocab_size": 320,
    "model.vocab_size": 384,
    "model.hidden_size": 32,
    "model.intermediate_size": 64,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 2,
    "model.num_key_value_heads": 2,
    "model.head_dim": 16,
    "model.max_position_embeddings": 64,
    "train.tokens": 2560,
    "train.global_batch_tokens": 256,
    "train.micro_batch_size": 2,
    "train.warmup_steps": 2,
    "train.eval_every": 5,
    "train.save_every": 5,
}
_SETTINGS = " ".join(f"--set {key}={value}" for key, value in SMALL.items())
_STENTOR = f"""#!/bin/sh
case "$1" in
  train|prepare|demo) command="$1"; shift; exec "{sys.executable}" -m stentor "$command" {_SETTINGS} "$@" ;;
  *) exec "{sys.executable}" -m stentor "$@" ;;
esac
"""
_TORCHRUN = f"""#!/bin/sh
exec "{sys.executable}" -m torch.distributed.run "$@" {_SETTINGS}
"""
_PYTHON = f"""#!/bin/sh
exec "{sys.executable}" "$@"
"""


class World:
    """A folder with small stand-ins; makes each of them once, and furnishes other folders with copies."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name, script in (("stentor", _STENTOR), ("torchrun", _TORCHRUN), ("python", _PYTHON)):
            path = folder / "bin" / name
            path.write_text(script)
            path.chmod(0o755)
        (folder / "my-texts").mkdir()
        for number, text in enumerate(texts):
            (folder / "my-texts" / f"{number:03}.txt").write_text(text + "\n")
        (folder / "short.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:40]))
        (folder / "short.txt").write_text("The old man and his people were there before us.\n")

    def run(self, script: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run a script of bash in a folder: offline, with the stand-ins' programs in front."""
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "120",
        }
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def furnish(self, folder: Path, names: Iterable[str]) -> None:
        """Put the texts and what the names stand for into a folder."""
        for name in ("my-texts", *names):
            source, target = self._made(name), folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)

    def _made(self, name: str) -> Path:
        """Return what a name stands for, by how it is spelt."""
        match name.rstrip("/").split("/"):
            case ["my-texts" | "notes" | "other-texts"]:
                return self.folder / "my-texts"
            case ["data", _]:
                return self._trained("tiny") / "../../data/tiny"
            case ["runs", run]:
                return self._trained("monster" if run == "monster" else "tiny")
            case [file] if file.endswith((".txt", ".md")):
                return self.folder / "short.txt"
            case [file] if file.endswith(".vocab"):
                return self.folder / "tiny.vocab"
            case [file] if file.endswith(".jsonl"):
                return self.folder / "short.jsonl"
            case [file] if file.endswith(".jsonl.zst"):
                return self._trained("tiny") / "../../data/tiny/corpus/validation.jsonl.zst"
            case [file] if file.endswith(".gguf"):
                return self._exported()
            case _:  # a model folder, which is a tokenizer's folder too
                other = "monster" in name or "vocabulary" in name
                return max(self._trained("monster" if other else "tiny").glob("checkpoints/*"))

    def _trained(self, name: str) -> Path:
        run = self.folder / "runs" / name
        if not run.exists():
            other = " --set tokenizer.path=tiny.vocab" if name == "monster" else ""
            self._must(f"stentor train tiny --set name={name}{other}")
        return run

    def _exported(self) -> Path:
        self._trained("tiny")
        if not (self.folder / "model.gguf").exists():
            self._must("stentor export runs/tiny model.gguf --to gguf")
        return self.folder / "model.gguf"

    def _must(self, script: str) -> None:
        ran = self.run(script, self.folder)
        assert ran.returncode == 0, f"{script}\n{ran.stderr}"
