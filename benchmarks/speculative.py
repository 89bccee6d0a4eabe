"""Claim: a draft makes a model's text several times as fast without changing it, and more than in transformers.

usage: python benchmarks/speculative.py TARGET DRAFT [OTHER_VOCABULARY_DRAFT] --prompts FILE [--dry-run]

Every method continues every prompt in turn, ours and transformers' assisted generation on the same pairs, again and
again; so whatever else the machine does meets all of them. The speed-up is over the same program without a draft.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from record import Claim, record

import stentor
import stentor.hf
from stentor.model.locate import resolve_model
from stentor.runtime.engine import LanguageModel
from stentor.runtime.sampling import Sampling
from stentor.runtime.speculative.decoding import DraftStats
from stentor.runtime.speculative.drafting import Drafting

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0, "top_p": 1.0, "repetition_penalty": 1.0},
    "sampled": {"temperature": 0.9, "top_p": 0.65, "repetition_penalty": 1.15},
}


@dataclass
class Way:
    """One way to continue a prompt, and what it took so far.

    Attributes:
        run: continues a prompt; returns the new ids.
        seconds: of all prompts, for each repetition.
        ids: that came out, by prompt; of the last repetition.
    """

    run: Callable[[str], list[int]]
    draft: DraftStats | None = None
    seconds: list[float] = field(default_factory=list)
    num_tokens: int = 0
    ids: dict[str, list[int]] = field(default_factory=dict)

    def tokens_per_second(self) -> float:
        return self.num_tokens / len(self.seconds) / statistics.median(self.seconds)


def own_ways(
    target: LanguageModel, pairs: dict[str, tuple[Any, str]], settings: dict[str, Any], num_tokens: int
) -> dict[str, Way]:
    """Return our way without a draft, and one for each draft and method."""

    def way(drafting: Drafting | None) -> Way:
        def run(prompt: str) -> list[int]:
            options = {"max_new_tokens": num_tokens, "ignore_eos": True, **settings}
            (completion,) = target.complete(prompt, draft=drafting, **options)
            if completion.stats.draft is not None:
                add(made.draft, completion.stats.draft)
            return completion.token_ids

        made = Way(
            run, None if drafting is None else DraftStats(*drafting.choose(target.tokenizer, Sampling(**settings)))
        )
        return made

    drafted = {name: way(Drafting(draft, method=method)) for name, (draft, method) in pairs.items()}
    return {"plain": way(None), **drafted}


def add(total: DraftStats | None, stats: DraftStats) -> None:
    assert total is not None
    for name in ("num_passes", "num_draft_steps", "num_proposed", "num_kept", "num_rejected"):
        setattr(total, name, getattr(total, name) + getattr(stats, name))


def their_ways(
    target: Path, drafts: dict[str, Path | None], settings: dict[str, float], num_tokens: int
) -> dict[str, Way]:
    """Return the same ways in transformers; `None` stands for its prompt lookup."""
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(target)
    model = opened(target)
    sampling = {"do_sample": True, **settings} if settings["temperature"] else {"do_sample": False}

    def way(**assistant: Any) -> Way:
        def run(prompt: str) -> list[int]:
            torch.manual_seed(0)
            ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
            options = {"max_new_tokens": num_tokens, "min_new_tokens": num_tokens, **sampling, **assistant}
            made = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
            return made[0, ids.shape[1] :].tolist()

        return Way(run)

    ways = {"plain": way()}
    for name, path in drafts.items():
        if path is None:
            ways[name] = way(prompt_lookup_num_tokens=10)
        elif name == "tokens":
            ways[name] = way(assistant_model=opened(path))
        else:
            their_tokenizer = transformers.AutoTokenizer.from_pretrained(path)
            assistant = opened(path)
            if assistant.config.vocab_size == model.config.vocab_size:  # taken there for the same vocabulary
                assistant.resize_token_embeddings(model.config.vocab_size + 64, mean_resizing=False)
            ways[name] = way(assistant_model=assistant, tokenizer=tokenizer, assistant_tokenizer=their_tokenizer)
    return ways


def opened(path: Path) -> Any:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.generation_config = transformers.GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    return model.eval()


def working(ways: dict[str, Way], prompt: str) -> tuple[dict[str, Way], dict[str, str]]:
    """Try every way of a peer once; return those that work, and what the others failed with."""
    works, failures = {}, {}
    for name, way in ways.items():
        try:
            way.run(prompt)
            works[name] = way
        except Exception as error:  # whatever a peer's code raises is its result
            failures[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
    return works, failures


def interleave(ways: dict[str, Way], prompts: list[str], repeats: int) -> None:
    """Run every way on every prompt in turn; the first repetition warms up and is not counted."""
    for repetition in range(repeats + 1):
        spent = dict.fromkeys(ways, 0.0)
        for prompt in prompts:
            for name, way in ways.items():
                started = time.perf_counter()
                way.ids[prompt] = way.run(prompt)
                spent[name] += time.perf_counter() - started
                way.num_tokens += len(way.ids[prompt]) if repetition else 0
        for name, way in ways.items() if repetition else ():
            way.seconds.append(spent[name])


def read_prompts(path: Path, tokenizer: stentor.Tokenizer, count: int, prompt_tokens: int) -> list[str]:
    """Return the beginnings of the paragraphs of a text file."""
    paragraphs = [text.strip() for text in path.read_text(encoding="utf-8").split("\n\n") if text.strip()]
    return [tokenizer.decode(tokenizer.encode(text)[:prompt_tokens]) for text in paragraphs[:count]]


def claims_of(setting: str, own: dict[str, Way], theirs: dict[str, Way]) -> tuple[list[Claim], dict[str, Any]]:
    claims, details = [], {}
    for name, way in own.items():
        details[f"{setting}, {name}"] = {
            "tokens_per_second": round(way.tokens_per_second(), 1),
            "transformers_tokens_per_second": round(theirs[name].tokens_per_second(), 1) if name in theirs else None,
        }
        if way.draft is None:
            continue
        speed_up = way.tokens_per_second() / own["plain"].tokens_per_second()
        peer = theirs[name].tokens_per_second() / theirs["plain"].tokens_per_second() if name in theirs else None
        peer_name = "transformers, assisted generation" if name in theirs else None
        what = f"{setting} text with a draft, by {name}"
        claims += [
            Claim(
                what=f"{what}: speed-up",
                value=round(speed_up, 3),
                unit="x",
                better="higher",
                peer=peer_name,
                peer_value=None if peer is None else round(peer, 3),
            ),
            Claim(what=f"{what}: kept", value=round(way.draft.acceptance_rate, 4), unit="share", better="higher"),
            Claim(
                what=f"{what}: tokens a pass", value=round(way.draft.tokens_per_pass, 3), unit="tokens", better="higher"
            ),
        ]
        if setting == "greedy":
            differ = sum(way.ids[prompt] != ids for prompt, ids in own["plain"].ids.items())
            claims.append(
                Claim(what=f"{what}: texts that differ", value=differ, unit="texts", better="lower", target=0)
            )
    return claims, details


def measure(arguments: argparse.Namespace) -> tuple[list[Claim], dict[str, Any]]:
    engine = {"dtype": arguments.dtype, "num_threads": arguments.threads}
    target, draft = stentor.load(arguments.target, **engine), stentor.load(arguments.draft, **engine)
    pairs: dict[str, tuple[Any, str]] = {"lookup": ("lookup", "auto"), "tokens": (draft, "tokens")}
    folders: dict[str, Path | None] = {"lookup": None, "tokens": resolve_model(arguments.draft)}
    if arguments.other:
        other = stentor.load(arguments.other, **engine)
        pairs |= {"intersection": (other, "intersection"), "text": (other, "text")}
        folders["text"] = resolve_model(arguments.other)
    prompts = read_prompts(arguments.prompts, target.tokenizer, arguments.num_prompts, arguments.prompt_tokens)
    claims, details = [], {"num_prompts": len(prompts), "new_tokens": arguments.new_tokens, **engine}
    for setting, options in SETTINGS.items():
        own = own_ways(target, pairs, options, arguments.new_tokens)
        theirs = their_ways(resolve_model(arguments.target), folders, options, arguments.new_tokens)
        if setting == "sampled" and "text" in theirs:
            theirs["intersection"] = theirs.pop("text")  # this is what its sampling does with two vocabularies
        theirs, failures = working(theirs, prompts[0])
        details[f"{setting}, failures of transformers"] = failures
        interleave(
            {**own, **{f"transformers, {name}": way for name, way in theirs.items()}}, prompts, arguments.repeats
        )
        found, more = claims_of(setting, own, theirs)
        claims, details = claims + found, details | more
    return claims, details


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="a model folder")
    parser.add_argument("draft", help="a smaller one of the same vocabulary")
    parser.add_argument("other", nargs="?", help="a smaller one of another vocabulary")
    parser.add_argument("--prompts", type=Path, required=True, help="a text file; each paragraph begins a prompt")
    parser.add_argument("--num-prompts", type=int, default=20)
    parser.add_argument("--prompt-tokens", type=int, default=48)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--dry-run", action="store_true", help="print, and record nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    claims, details = measure(arguments)
    for claim in claims:
        beside = "" if claim.peer_value is None else f"  ({claim.peer}: {claim.peer_value})"
        print(f"{claim.what}: {claim.value} {claim.unit}{beside}")
    print(details)
    if not arguments.dry_run:
        print(record("speculative", claims, details))


if __name__ == "__main__":
    main()
