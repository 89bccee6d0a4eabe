"""The example as a user hosts it: its files, an exported model beside them, Python's own web server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stentor.export.onnx import export_onnx

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "browser"
DRIVER = Path(__file__).with_name("node_modules") / "playwright-core" / "package.json"
VENDOR = EXAMPLE / "vendor" / "transformers.js"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def absent(message: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return the browser, once all that it needs is there."""
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        absent("no Chromium on PATH: apt-get install chromium")
    if shutil.which("node") is None:
        absent("no Node.js on PATH: apt-get install nodejs npm")
    if not (VENDOR.is_file() and DRIVER.is_file()):
        absent("no transformers.js and no driver of Chromium: make them with `make browser`")
    return str(found)


@pytest.fixture(scope="session")
def site(chromium, tmp_path_factory) -> Path:
    """Return a folder with the page and the model that ships with Stentor, exported."""
    folder = tmp_path_factory.mktemp("site") / "browser"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "model"))
    export_onnx("stentor-12m", folder / "model")
    return folder


@pytest.fixture
def address(site) -> Iterator[str]:
    """Return where the folder is served; the port is one that is free."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", site]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout
        found = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
        assert found
        yield found[0]
    finally:
        server.terminate()
        server.communicate()
