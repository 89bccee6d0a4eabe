"""transformers.js in headless Chromium: our export writes our engine's text, and nobody else is asked for anything."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stentor.runtime.engine import load
from stentor.tokenizer.probes import mixed_strings

DRIVE = Path(__file__).with_name("write.mjs")
PROMPTS = ("The history of", "Rivers carry rain from the mountains", "def area(radius):\n    return", "\u65e5\u672c")
NUM_TOKENS = 60

pytestmark = [pytest.mark.external, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Asked:
    """One text that the page is to write; temperature 0 takes the likeliest token always."""

    prompt: str
    dtype: str = "fp32"
    temperature: float = 0.0
    penalty: float = 1.0
    length: int = NUM_TOKENS
    stop: bool = False


@dataclass
class Browser:
    """Opens the page with Chromium and says what was seen."""

    chromium: str
    address: str
    answers: list[dict[str, Any]] = field(default_factory=list)

    def see(self, *asked: Asked, strings: list[str] = [], picture: Path | None = None) -> dict[str, Any]:  # noqa: B006
        work = {"asked": [vars(one) for one in asked], "strings": strings, "picture": picture and str(picture)}
        done = subprocess.run(
            ["node", DRIVE, self.chromium, self.address],
            input=json.dumps(work),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert seen["errors"] == []
        assert seen["blocked"] == []  # nothing but the page's own server was asked for anything
        return seen


@pytest.fixture
def browser(chromium, address) -> Browser:
    return Browser(chromium, address)


@pytest.fixture(scope="module")
def ours():
    return load("stentor-12m", dtype="float32", num_threads=1)


def test_greedy_text_is_our_engine_s(browser, ours):
    asked = [Asked(prompt) for prompt in PROMPTS] + [Asked(PROMPTS[0], penalty=1.15)]
    seen = browser.see(*asked)
    expected = [
        ours.generate(one.prompt, temperature=0, max_new_tokens=one.length, repetition_penalty=one.penalty)
        for one in asked
    ]
    assert seen["texts"] == expected
    assert seen["statuses"][0].startswith("Ready: 1")  # the INT8 form is what a page loads first
    assert all(re.search(r"\d+ tokens", status) for status in seen["statuses"][2:])


def test_the_int8_form_writes_and_stops_when_told(browser, ours):
    whole = Asked(PROMPTS[1], dtype="q8", temperature=0.9, penalty=1.15, length=80)
    stopped = Asked(PROMPTS[1], dtype="q8", temperature=0.9, penalty=1.15, length=500, stop=True)
    seen = browser.see(whole, stopped)
    first, second = seen["texts"]
    assert len(ours.tokenizer.encode(first)) > 20
    assert len(ours.tokenizer.encode(second)) < 400
    assert "failed" not in seen["states"]


def test_a_prompt_beyond_the_context_is_told_and_the_page_goes_on(browser):
    seen = browser.see(Asked("long " * 3000), Asked(PROMPTS[0], length=10))
    assert "longer than this model's 1024 tokens" in seen["statuses"][-2]
    assert seen["texts"][-1]


def test_token_ids_are_ours_on_mixed_strings(browser, ours):
    strings = mixed_strings(2000, seed=9)
    seen = browser.see(strings=strings)
    different = [
        text for text, theirs in zip(strings, seen["ids"], strict=True) if ours.tokenizer.encode(text) != theirs
    ]
    assert different == []


def test_the_page_is_usable_without_a_mouse_or_eyes(browser):
    seen = browser.see()
    assert seen["unnamed"] == []
    assert seen["focusable"] == ["prompt", "temperature", "penalty", "length", "dtype", "write"]
