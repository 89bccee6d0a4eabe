"""What is found in a page: the tests of the documentation are worth no more than this."""

from __future__ import annotations

import pytest
from doc_blocks import Block, blocks, commands, inline_commands, pages, stentor_arguments

PAGE = """# A page

```sh
stentor doctor
```

<!-- not run: needs a GPU -->

```python
import torch
```

```toml title="mine.toml"
name = "mine"
```

1. In a list:

    ```console
    $ stentor train tiny
    it prints
    ```

What `stentor train
tiny --dry-run` says, ``not `stentor this` ``, nor `stentor[report]`.

```
`stentor in a block`
```
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    for name in ("README.md", "docs/page.md", "docs/sub/other.md"):
        (tmp_path / name).write_text(PAGE)
    return tmp_path


def test_pages_are_the_readme_and_all_below_docs(root):
    assert pages(root) == ["README.md", "docs/page.md", "docs/sub/other.md"]


def test_blocks_have_their_place_language_title_and_reason(root):
    assert blocks("docs/page.md", root) == [
        Block("docs/page.md", 3, "sh", "stentor doctor\n"),
        Block("docs/page.md", 9, "python", "import torch\n", not_run="needs a GPU"),
        Block("docs/page.md", 13, "toml", 'name = "mine"\n', title="mine.toml"),
        Block("docs/page.md", 19, "console", "$ stentor train tiny\nit prints\n"),
        Block("docs/page.md", 27, "", "`stentor in a block`\n"),
    ]


def test_a_reason_counts_for_the_next_block_alone(root):
    (root / "docs/page.md").write_text("<!-- not run: hours -->\n\ntext\n\n```sh\nls\n```\n```sh\nls\n```\n")
    assert [block.not_run for block in blocks("docs/page.md", root)] == [None, None]


def test_a_block_that_is_never_closed_is_an_error(root):
    (root / "docs/page.md").write_text("```sh\nls\n")
    with pytest.raises(ValueError, match="never closed"):
        blocks("docs/page.md", root)


def test_a_console_block_has_commands_behind_its_prompts(root):
    assert blocks("docs/page.md", root)[3].shell_text == "stentor train tiny\n"
    assert blocks("docs/page.md", root)[0].shell_text == "stentor doctor\n"


def test_commands_in_running_text_may_break_a_line(root):
    assert inline_commands("docs/page.md", root) == ["stentor train tiny --dry-run"]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("stentor doctor   # what there is", [["stentor", "doctor"]]),
        ("# only a comment\n\n", []),
        ("echo 'a b' | stentor generate - --stop '.'", [["echo", "a b"], ["stentor", "generate", "-", "--stop", "."]]),
        ("stentor train a \\\n  --set b=c", [["stentor", "train", "a", "--set", "b=c"]]),
        ("HF_HUB_OFFLINE=1 stentor demo && ls; pwd", [["stentor", "demo"], ["ls"], ["pwd"]]),
        ("stentor generate - < in.txt > out.txt", [["stentor", "generate", "-"]]),
        ("stentor a --set 'x=[\"y\"]'", [["stentor", "a", "--set", 'x=["y"]']]),
        (
            "for s in 0 1; do\n  stentor train r$s\ndone",
            [["for", "s", "in", "0", "1"], ["stentor", "train", "r$s"], ["done"]],
        ),
    ],
)
def test_commands_of_a_script(script, expected):
    assert list(commands(script)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("stentor train tiny", ["train", "tiny"]),
        ("torchrun --nproc-per-node 2 -m -- stentor train tiny", ["train", "tiny"]),
        ("python -m stentor doctor", ["doctor"]),
        ("pip install stentor", None),
        ("ls", None),
    ],
)
def test_arguments_that_reach_stentor(words, expected):
    assert stentor_arguments(words.split()) == expected
