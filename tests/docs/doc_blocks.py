"""What the documentation tells a reader to type: fenced blocks, and the commands in them and in running text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHELL = ("sh", "console")
RUN = (*SHELL, "python")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)(?: +(?P<options>.*))?$")
_TITLE = re.compile(r'\btitle="([^"]+)"')
_NOT_RUN = re.compile(r"^<!-- not run: (?P<reason>.+) -->$")
_INLINE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_SEPARATORS = {"|", "||", "&&", ";", "(", ")", "&"}
_REDIRECTIONS = {"<", ">", ">>"}
_BEFORE_A_COMMAND = re.compile(r"do|then|else|time|!|[A-Za-z_]\w*=.*")


@dataclass(frozen=True)
class Block:
    """A fenced block: its page below the root, the line of its fence, and the reason if nobody runs it."""

    page: str
    line: int
    language: str
    text: str
    title: str | None = None
    not_run: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def shell_text(self) -> str:
        """The commands alone: of a `console` block the lines behind `$ `, without what they print."""
        if self.language != "console":
            return self.text
        return "".join(line[2:] + "\n" for line in self.text.splitlines() if line.startswith("$ "))


def pages(root: Path = ROOT) -> list[str]:
    """Return README.md and every page of docs/, by their paths below the root."""
    return ["README.md", *sorted(path.relative_to(root).as_posix() for path in root.glob("docs/**/*.md"))]


def blocks(page: str, root: Path = ROOT) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = iter(enumerate((root / page).read_text(encoding="utf-8").splitlines(), start=1))
    reason: str | None = None
    for number, line in lines:
        if opened := _FENCE.match(line):
            found.append(Block(page, number, opened["language"], _body(lines, opened), _title(opened), reason))
        if line.strip():
            marked = _NOT_RUN.match(line.strip())
            reason = marked["reason"] if marked else None
    return found


def _body(lines: Iterator[tuple[int, str]], opened: re.Match[str]) -> str:
    body = []
    for _, line in lines:
        if line.strip() == "```":
            return "".join(f"{line}\n" for line in body)
        body.append(line.removeprefix(opened["indent"]))
    raise ValueError(f"a fence is never closed: {opened[0]}")


def _title(opened: re.Match[str]) -> str | None:
    title = _TITLE.search(opened["options"] or "")
    return title[1] if title else None


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell script: what pipes, lists and loops are made of."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        redirected = False
        for word in [*lexer, ";"]:
            if word in _SEPARATORS:
                yield from [words] if words else []
                words = []
            elif redirected or word in _REDIRECTIONS:
                redirected = not redirected
            elif words or not _BEFORE_A_COMMAND.fullmatch(word):
                words.append(word)


def stentor_arguments(words: list[str]) -> list[str] | None:
    """Return what a command passes to `stentor`, also through torchrun and `python -m`; None if it is another's."""
    for called in (["stentor"], ["-m", "--", "stentor"], ["-m", "stentor"]):
        for start in range(len(words) - len(called) + 1 if called[0] == "-m" else 1):
            if words[start : start + len(called)] == called:
                return words[start + len(called) :]
    return None


def inline_commands(page: str, root: Path = ROOT) -> list[str]:
    """Return the commands `stentor ...` that stand in a page's running text, outside fenced blocks."""
    prose, inside = [], False
    for line in (root / page).read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("```"):
            inside = not inside
        elif not inside:
            prose.append(line)
    spans = [" ".join(text.split()) for _, text in _INLINE.findall("\n".join(prose))]
    return [span for span in spans if span.startswith("stentor ")]
