"""Every command of the documentation is understood by the real command line, and every block is marked or runnable."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer
from doc_blocks import ROOT, RUN, SHELL, Block, blocks, commands, inline_commands, pages, stentor_arguments

from stentor.cli.main import app
from stentor.config import Recipe

LANGUAGES = {*RUN, "toml", "json", "text"}
ALL = [block for page in pages() for block in blocks(page)]
INLINE = [(page, command) for page in pages() for command in inline_commands(page)]
each_inline = pytest.mark.parametrize(("page", "command"), INLINE, ids=lambda value: value)


def each(*languages: str):
    return pytest.mark.parametrize("block", [block for block in ALL if block.language in languages], ids=str)


def below(group: Any) -> Iterator[Any]:
    """Yield every command of a group and of the groups in it."""
    for command in group.commands.values():
        yield from below(command) if hasattr(command, "commands") else [command]


@cache
def parser() -> Any:
    """Return the real command line, whose commands do nothing once they are understood."""
    group = typer.main.get_command(app)
    for command in below(group):
        command.callback = lambda **_: None
    return group


def complaint(arguments: list[str]) -> str | None:
    """Return what the command line says against these arguments, or None."""
    try:
        parser().main(arguments, prog_name="stentor", standalone_mode=False)
    except Exception as error:  # the classes of the parser that typer carries have no public names
        return f"{type(error).__name__}: {error}"
    return None


@each(*SHELL)
def test_a_command_of_a_block_is_understood(block: Block):
    for words in commands(block.shell_text):
        arguments = stentor_arguments(words)
        if arguments is not None:
            assert complaint(arguments) is None, f"{block}: stentor {shlex.join(arguments)}"


@each_inline
def test_a_command_in_running_text_is_understood(page: str, command: str):
    """One that only names a command and some of its options may leave out the rest."""
    said = complaint(shlex.split(command)[1:])
    assert said is None or said.startswith("MissingParameter"), page


def test_the_examples_of_every_help_are_understood():
    for command in below(parser()):
        examples = re.findall(r"Example: (.*)", command.help)
        assert examples, command.name
        for words in (words for example in examples for words in commands(example)):
            arguments = stentor_arguments(words)
            assert arguments is None or complaint(arguments) is None, shlex.join(words)


@pytest.mark.parametrize(
    "arguments", ["nonsense", "train tiny --nonsense", "export a b --to nonsense", "generate", "train tiny --resume"]
)
def test_what_is_not_understood_would_be_noticed(arguments: str):
    assert complaint(arguments.split())


@each("python")
def test_a_block_of_python_is_python(block: Block):
    compile(block.text, str(block), "exec")


@each("toml")
def test_a_block_of_toml_is_toml_and_a_recipe_where_it_has_sections_of_one(block: Block):
    table = tomllib.loads(block.text)
    if {"text", "tokenizer", "model", "train"} & set(table):
        Recipe.from_table({"name": "page", **table})


@each(*SHELL)
def test_a_target_of_make_exists(block: Block):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [word for words in commands(block.shell_text) if words[0] == "make" for word in words[1:]]
    for target in targets:
        assert "=" in target or re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"{block}: {target}"


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_says_what_it_is(block: Block):
    """Only what has a language is looked at: commands must not hide in a block without one."""
    assert block.language in LANGUAGES or not re.search(r"^\$? *(stentor|python|pip|make) ", block.text, re.MULTILINE)
    assert not (block.not_run and block.language not in RUN), "only what would be run can be marked as not run"
