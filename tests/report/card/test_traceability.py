"""Numbers of a card come from files: another number in a file is another card, and what was typed has no numbers."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from stentor.report.card.results import COMMANDS, Found, Results
from stentor.report.card.uses import ethics, out_of_scope
from stentor.report.card.write import render_card

pytestmark = pytest.mark.usefixtures("few_resamples")
NOT_SHOWN = {
    "evaluate": {"num_lossy_documents", "num_lost_bytes", "num_ties", "num_cut", "sample_len", "vocab_size"},
    "compare": {"low", "high", "num_asked", "num_pairs", "num_paradigms", "num_ties", "num_cut", "accuracy",
                "acc_stderr,none", "sample_len"},
    "contamination": {"num_ngrams", "0.0"},
    "memorization": set(),
    "generate": {"prefill_seconds", "tokens_per_second", "presence_penalty", "top_k", "min_p", "typical_p"},
    "quantization": set(),
    "bench": {"num_parameters", "context_length"},
}  # fmt: skip
"""What files hold beside what a card shows of them."""


def leaf(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize("kind", COMMANDS)
def test_another_number_is_another_card(material, kind, places):
    """Every number of a file that is shown is read from it: changed there, it is changed on the card."""
    material = dataclasses.replace(material, subject=dataclasses.replace(material.subject, run=None))
    (good,) = material.results.of(kind)
    before, _ = render_card(material)
    num_shown = 0
    for path in places.of(good.value):
        value = leaf(good.value, path)
        if type(value) not in (int, float) or path[-1] in NOT_SHOWN[kind] or "overlapping" in path:
            continue  # of no overlapping document is anything measured in these results
        other = Found(kind, "", good.path, places.changed(good.value, path, type(value)(value * 1.5 + 1)))
        found = tuple(other if one is good else one for one in material.results.found)
        after, _ = render_card(dataclasses.replace(material, results=Results(found)))
        assert after != before, path
        num_shown += 1
    assert num_shown >= 4


def test_another_log_is_another_card(material):
    """Each number of an update or an evaluation that the card sums up moves it."""
    run = material.subject.run
    before, _ = render_card(material)
    for kind, name in (
        ("train", "seconds"),
        ("train", "tokens_seen"),
        ("train", "loss_nats"),
        ("train", "lr"),
        ("train", "grad_norm"),
        ("train", "tokens_per_second"),
        ("evaluations", "loss_nats"),
        ("evaluations", "perplexity"),
        ("evaluations", "bits_per_byte"),
        ("scales", "max_logit"),
        ("starts", "flops_per_token"),
        ("starts", "num_epochs"),
        ("starts", "num_processes"),
    ):
        records = tuple({**record, name: record[name] * 2} for record in getattr(run.log, kind))
        log = dataclasses.replace(run.log, **{kind: records})
        subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, log=log))
        after, _ = render_card(dataclasses.replace(material, subject=subject))
        assert after != before, (kind, name)


@pytest.mark.parametrize("section", [out_of_scope, ethics])
def test_words_have_no_numbers_of_their_own(bare, section):
    assert not re.search(r"\d", section(bare))
