"""Question: is a vocabulary of 8,000 tokens or one of 32,768 better for a model of 12M parameters?

usage: python benchmarks/vocabulary_size.py SHARDS_8K SHARDS_32K RUNS       (folders of `stentor prepare`; needs a GPU)

Both learn alone with the rates of `stentor2-12m-best`, from the same documents, each with its own BPE and about 12.3M
parameters: 12 layers of 256 with 8,064 rows in the embedding, or 12 of 192 with 32,768, where the embedding takes half
of them. The larger vocabulary reads more text in as many tokens, so it is measured twice: after equal tokens, and after
the tokens that hold as many bytes. A run that RUNS holds is not made again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from record import Claim, record

from stentor.config import Recipe
from stentor.shards.build import Shards, open_shards
from stentor.train.log import records_of
from stentor.train.loop import train

TOKENS, STEP = 98_304_000, 32_768
ALONE = {"train.teachers": [], "train.initializer": "scaled", "train.eval_every": 10**9, "train.save_every": 10**9}
SMALL: dict[str, Any] = {}
LARGE = {
    "tokenizer.vocab_size": 32_760,
    "model.vocab_size": 32_768,
    "model.hidden_size": 192,
    "model.intermediate_size": 608,
    "model.num_attention_heads": 3,
    "model.num_key_value_heads": 3,
}


def run(name: str, shards: Shards, runs: Path, tokens: int, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a run, unless it is there, and return what came of it."""
    recipe = Recipe.load("stentor2-12m-best", overrides={**ALONE, **shape, "train.tokens": tokens})
    if not _is_finished(runs / name):
        train(recipe, shards, runs / name)
    records = list(records_of(runs / name))
    trained = [r["tokens_per_second"] for r in records if r["kind"] == "train"]
    evaluation = next(r for r in reversed(records) if r["kind"] == "evaluation")
    return {
        "parameters": recipe.model.num_parameters,
        "tokens": tokens,
        "text_bytes": round(tokens * _bytes_per_token(shards)),
        "bytes_per_token": round(_bytes_per_token(shards), 3),
        "bits_per_byte": evaluation["bits_per_byte"],
        "tokens_per_second": sorted(trained)[len(trained) // 2],
        "device": next(r["device_name"] for r in records if r["kind"] == "start"),
    }


def _is_finished(run_dir: Path) -> bool:
    return run_dir.exists() and any(record["kind"] == "finished" for record in records_of(run_dir))


def _bytes_per_token(shards: Shards) -> float:
    return shards.train.num_text_bytes / shards.train.num_tokens


def main() -> None:
    """Make the runs that are missing and write the result."""
    small, large, runs = open_shards(Path(sys.argv[1])), open_shards(Path(sys.argv[2])), Path(sys.argv[3])
    as_many_bytes = round(TOKENS * _bytes_per_token(small) / _bytes_per_token(large) / STEP) * STEP
    found = {
        "8,000 tokens": run("8k", small, runs, TOKENS, SMALL),
        "32,760 tokens, equal bytes": run("32k-bytes", large, runs, as_many_bytes, LARGE),
        "32,760 tokens, equal tokens": run("32k-tokens", large, runs, TOKENS, LARGE),
    }
    peer = found["8,000 tokens"]["bits_per_byte"]
    claims = [
        Claim(
            what=name,
            value=result["bits_per_byte"],
            unit="bits per byte",
            better="lower",
            peer=None if name == "8,000 tokens" else "8,000 tokens",
            peer_value=None if name == "8,000 tokens" else peer,
        )
        for name, result in found.items()
    ]
    sys.argv[1:] = ["SHARDS_8K", "SHARDS_32K", "RUNS"]
    device = ", ".join(sorted({result["device"] for result in found.values()}))
    print(record("vocabulary_size", claims, {"runs": found}, machine=device).read_text())


if __name__ == "__main__":
    main()
