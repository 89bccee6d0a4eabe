"""The site of the documentation: every page is in its menu, it builds strictly, and it loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from doc_blocks import ROOT

CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def listed(entries) -> Iterator[str]:
    """Yield the pages of a menu and of the menus in it."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from listed(value) if isinstance(value, list) else [value]


class Loaded(HTMLParser):
    """Collects the addresses that a browser fetches to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = {key: value or "" for key, value in attrs}
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses += [given[key] for key in ("src", "srcset") if key in given]
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(given.get("href", ""))


def elsewhere(address: str) -> bool:
    return re.match(r"(https?:)?//", address) is not None


def test_every_page_is_in_the_menu_once():
    pages = sorted(path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md"))
    assert sorted(listed(CONFIG["nav"])) == pages


def test_no_font_is_fetched():
    assert CONFIG["theme"]["font"] is False


def test_what_a_browser_loads_is_found():
    page = Loaded()
    page.feed('<script src="//a.b/c.js"></script><a href="https://x.y"></a><link rel=icon href="z.png"><img src=i.svg>')
    assert page.addresses == ["//a.b/c.js", "z.png", "i.svg"]
    assert [elsewhere(address) for address in page.addresses] == [True, False, False]


@pytest.mark.slow
def test_it_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path):
    unreachable = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, **unreachable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    for path in (tmp_path / "site").rglob("*.html"):
        page = Loaded()
        page.feed(path.read_text(encoding="utf-8"))
        assert page.addresses
        assert not [address for address in page.addresses if elsewhere(address)], path
    for path in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(url\(|@import\s+)[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path
    assert Path(tmp_path / "site" / "search" / "search_index.json").stat().st_size > 10_000
