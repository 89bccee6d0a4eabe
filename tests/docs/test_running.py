"""Every block of the documentation that is not marked otherwise is run, page by page and in order."""

from __future__ import annotations

import shlex

import pytest
from doc_blocks import RUN, SHELL, Block, blocks, commands, pages
from stand_ins import World

from stentor.tokenizer.tokenmonster.vocab_file import write_vocab

STAND_INS = {
    "README.md": ("some-other-text.txt", "other-texts"),
    "docs/bench.md": ("runs/mine",),
    "docs/evaluate.md": ("runs/tiny", "data/tiny", "README.md", "held-out.jsonl"),
    "docs/export.md": ("runs/tiny", "runs/mine", "runs/monster", "validation.jsonl.zst"),
    "docs/card.md": ("runs/tiny", "data/tiny"),
    "docs/finetune.md": ("notes", "held-out.jsonl"),
    "docs/generate.md": ("runs/tiny",),
    "docs/model.md": ("model.gguf",),
    "docs/onnx.md": ("runs/mine", "text.jsonl.zst"),
    "docs/quantization.md": ("runs/tiny", "validation.jsonl", "training.jsonl"),
    "docs/reliability.md": ("data/tiny",),
    "docs/shards.md": ("my-tokenizer",),
    "docs/speculative.md": (
        "runs/mine",
        "runs/stentor2-30m-best",
        "runs/stentor2-3m-best",
        "other-vocabulary",
        "report.txt",
    ),
    "docs/tokenizer.md": ("other-tokenizer",),
    "docs/tokenmonster.md": ("english-8000-balanced-v1.vocab", "some-text.txt", "a-tokenmonster-model"),
}
"""What each page takes for granted; everything else its own commands make."""
SETS_UP = {"make", "pip"}
"""Blocks of these set up the very checkout and packages that are being tested, and are not run."""


def runs(block: Block) -> bool:
    """Whether a block is to be run here."""
    if block.language not in RUN or block.not_run:
        return False
    return block.language == "python" or sets_up(block) != {True}


def sets_up(block: Block) -> set[bool]:
    """Return, for the commands of a block of shell, whether they are such that set up."""
    return {words[0] in SETS_UP for words in commands(block.shell_text)}


RUNNING = [page for page in pages() if any(map(runs, blocks(page)))]


@pytest.fixture(scope="session")
def world(tmp_path_factory, prose_documents, tiny_tokenmonster) -> World:
    """Return the world that stand-ins are taken from."""
    world = World(tmp_path_factory.mktemp("docs") / "world", prose_documents(200))
    write_vocab(world.folder / "tiny.vocab", tiny_tokenmonster.vocab)
    return world


def test_set_up_stands_in_blocks_of_its_own():
    every = [block for page in pages() for block in blocks(page) if block.language in SHELL and not block.not_run]
    assert not [str(block) for block in every if len(sets_up(block)) != 1], "split it, or mark it as not run"


def test_every_stand_in_is_for_a_page_that_runs():
    assert set(STAND_INS) <= set(RUNNING)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", RUNNING)
def test_what_a_page_says_runs(page, world, tmp_path):
    world.furnish(tmp_path, STAND_INS.get(page, ()))
    for block in blocks(page):
        if block.title:
            (tmp_path / block.title).write_text(block.text)
        if runs(block):
            ran = world.run(script_of(block), tmp_path)
            assert ran.returncode == 0, f"{block} failed:\n{block.text}\n{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}"


def script_of(block: Block) -> str:
    """Return what bash runs: the commands of a block, or Python on its text."""
    if block.language == "python":
        return f"python -c {shlex.quote(block.text)}"
    return block.shell_text


def test_a_block_of_python_is_run_as_it_is_written():
    block = Block("page", 1, "python", "print('a \"b\" $c')\n")
    assert shlex.split(script_of(block)) == ["python", "-c", block.text]
