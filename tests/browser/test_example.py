"""transformers.js in headless Chromium: our export writes our engine's text, and nobody else is asked for anything."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stentor.export.parity import compare_logits
from stentor.runtime.engine import load
from stentor.tokenizer.probes import mixed_strings

DRIVE = Path(__file__).with_name("write.mjs")
PROMPTS = ("The history of", "Rivers carry rain from the mountains", "def area(radius):\n    return", "\u65e5\u672c")
WINDOW = "Rivers carry rain from the mountains to the sea.\n\ndef area(radius):\n    return 3.14159 * radius ** 2\n"
NUM_TOKENS = 60
LOCK = Path(__file__).resolve().parents[2] / "examples" / "browser" / "package-lock.json"
TRANSFORMERS_JS = json.loads(LOCK.read_text())["packages"]["node_modules/@huggingface/transformers"]["version"]
LOGIT_LIMIT = 3e-4
"""The largest logits are 24: 1e-5 of that, as an export allows."""
KL_LIMIT_NATS = 2e-3
"""Of INT8, whose roundings tip over wherever sums differ in a last bit; what it costs against float32 is 1e-2."""
INT8_MEASURE = "logits, from Stentor's own session on the graph"

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

    def see(
        self,
        *asked: Asked,
        strings: Sequence[str] = (),
        window: Sequence[int] = (),
        picture: Path | None = None,
    ) -> dict[str, Any]:
        work = {"asked": [vars(one) for one in asked], "strings": strings, "window": window}
        work |= {"picture": picture and str(picture)}
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


@pytest.fixture(scope="module")
def our_graph(site):
    """Return the INT8 graph in a session of ours: no engine of ours rounds activations as it does."""
    return load(site / "model" / "onnx" / "model_quantized.onnx", num_threads=1)


def test_greedy_text_ids_and_logits_are_our_engine_s(browser, ours, our_graph, record_opened):
    exact = [Asked(prompt) for prompt in PROMPTS] + [Asked(PROMPTS[0], penalty=1.15)]
    rounded = [Asked(prompt, dtype="q8") for prompt in PROMPTS]
    strings, window = mixed_strings(2000, seed=9), ours.tokenizer.encode(WINDOW)
    seen = browser.see(*exact, *rounded, strings=strings, window=window)
    texts, texts_in_int8 = seen["texts"][: len(exact)], seen["texts"][len(exact) :]
    assert texts == [greedy_text(ours, asked) for asked in exact]
    assert seen["statuses"][0].startswith("Ready: 1")  # the INT8 form is what a page loads first
    written = [status for status, state in zip(seen["statuses"], seen["states"], strict=True) if state == "done"]
    assert len(written) == len(seen["texts"])
    assert all(re.search(r"\d+ tokens", status) for status in written)
    different = [
        text for text, theirs in zip(strings, seen["ids"], strict=True) if ours.tokenizer.encode(text) != theirs
    ]
    assert different == []
    row = {"consumer": "transformers.js, in Chromium", "version": TRANSFORMERS_JS, "model": "stentor-12m"}
    row["command"] = "pytest -m external tests/browser"
    difference, _ = compared(ours, window, seen["logits"]["fp32"])
    assert difference <= LOGIT_LIMIT
    agrees = ["token ids", "logits", "greedy text"]
    record_opened(file="onnx float32", agrees=agrees, difference=difference, measure="logits", **row)
    difference, kl_nats = compared(our_graph, window, seen["logits"]["q8"])
    assert kl_nats <= KL_LIMIT_NATS
    are_texts_equal = texts_in_int8 == [greedy_text(our_graph, asked) for asked in rounded]
    agrees = ["token ids", "probabilities", *(["greedy text"] * are_texts_equal)]
    record_opened(file="onnx int8", agrees=agrees, difference=difference, measure=INT8_MEASURE, **row)


def compared(model, window, theirs) -> tuple[float, float]:
    """Return the largest difference of logits after each token of a window, and the mean KL in nats."""
    ours_TV = model.network.fresh().extend(window, 0, all_scored=True)
    theirs_TV = np.array(theirs, dtype=np.float32).reshape(ours_TV.shape)
    return float(np.abs(ours_TV - theirs_TV).max()), compare_logits(ours_TV, theirs_TV).mean_kl_nats


def greedy_text(model, asked: Asked) -> str:
    return model.generate(asked.prompt, temperature=0, max_new_tokens=asked.length, repetition_penalty=asked.penalty)


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


def test_the_page_is_usable_without_a_mouse_or_eyes(browser):
    seen = browser.see()
    assert seen["unnamed"] == []
    assert seen["focusable"] == ["prompt", "temperature", "penalty", "length", "dtype", "write"]
