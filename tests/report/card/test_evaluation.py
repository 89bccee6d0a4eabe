"""What was measured, with its intervals: the numbers of the files, and what is said where there are none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.report.card.evaluation import bits_interval, comparison, evaluation, seen_before
from stentor.report.card.results import Found, Results, read_results

PART = st.fixed_dictionaries(
    {"loss_nats": st.floats(0.1, 9), "num_tokens": st.integers(1, 500), "num_bytes": st.integers(1, 2000)}
)


def test_texts_and_tasks(material):
    text = evaluation(material)
    low, high = bits_interval(material.results.of("evaluate")[0].value["documents"]) or (0, 0)
    row = f"| held-out text | **1.2500** | 3.0000 | 20.09 | 3,462 | {low:.4f} to {high:.4f} | 2.5000 |"
    assert row in text
    assert "| held-out text of the training, best evaluation | **" in text
    assert "**68.95%** (95%: 68.00% to 70.00%): mean over 67 paradigms, 67,000 pairs" in text
    assert "| binding | 75.0% | 70.0% to 80.0% | 100 |\n| island\\_effects | 50.0% |" in text
    assert "### Multiple choice: science" in text
    assert "| Accuracy | **30.00%** (95%: 25.00% to 35.00%) |" in text
    assert "| A guess is right | 25.0% |" in text
    assert "| Perplexity of the last word | 512.50 |" in text
    assert "| arc\\_easy | acc,none | 0.4100 | 0.0100 |" in text
    assert "sample_len" not in text
    assert "nothing stands before a text" in text


def test_only_tasks_or_only_a_text(material, put):
    value = material.results.of("evaluate")[0].value
    tasks = {"model": "m", "tasks": value["tasks"][2:3]}
    plain = {name: value[name] for name in ("model", "loss_nats", "perplexity", "bits_per_byte", "num_bytes")}
    alone = dataclasses.replace(material.subject, run=None)
    folder = put(evaluate=tasks)
    text = evaluation(dataclasses.replace(material, subject=alone, results=read_results(folder)))
    assert text.startswith("### LAMBADA")
    text = evaluation(dataclasses.replace(material, subject=alone, results=read_results(put(evaluate=plain))))
    assert "| held-out text | **1.2500** | 3.0000 | 20.09 | 3,462 | - | - |" in text
    assert "Intervals" not in text


def test_nothing_measured_names_the_command(bare):
    assert evaluation(bare).startswith("Not measured. `stentor evaluate MODEL TEXT")
    assert "`stentor contamination TEXT TRAINING --model MODEL --json > contamination.json`" in seen_before(bare)
    assert "`stentor memorization MODEL TRAINING --json > memorization.json`" in seen_before(bare)
    assert comparison(bare) == ""


def test_models_beside_each_other(material):
    text = comparison(material)
    assert "On held-out:" in text
    assert "| model | 32,928 | 320 | 32 | 3.5000 | 1.2500 | 68.95% | 0.4100 |" in text
    assert "| org/other-14m | 14,000,000 | 320 | 32 | 3.5000 | - |" in text
    assert "- Note: they differ." in text
    assert "What this comparison does not say:" in text
    assert "/somewhere" not in text


def test_what_was_seen_before(material):
    text = seen_before(material)
    assert "| ... that share a run of words | 17 |\n| ... more than 10% of theirs | 4 |" in text
    assert "| Bits per byte of clean documents | 1.3100 (183) |" in text
    assert "of overlapping documents" not in text
    assert "| ... at least 50 | 0.5% |" in text
    assert "| Longest | 63 tokens, of `train:17` |" in text
    assert "````\n```\nThe GNU General Public License\n````" in text


@settings(max_examples=12)
@given(st.lists(PART, min_size=2, max_size=12))
def test_an_interval_holds_the_extremes_between_documents(documents):
    interval = bits_interval(documents)
    assert interval is not None
    each = [one["loss_nats"] * one["num_tokens"] / one["num_bytes"] / np.log(2) for one in documents]
    assert min(each) - 1e-9 <= interval[0] <= interval[1] <= max(each) + 1e-9
    assert interval == bits_interval(documents)


def test_an_interval_covers_the_mean_as_often_as_it_says():
    """Of 60 samples of 60 documents whose mean is known, about 95% have it within their interval."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        losses = generator.normal(2.0, 0.5, 60)
        low, high = bits_interval([{"loss_nats": x, "num_tokens": 1, "num_bytes": 1} for x in losses]) or (0, 0)
        covered += low <= 2.0 / np.log(2) <= high
    assert 52 <= covered <= 60


def test_one_document_has_no_interval():
    assert bits_interval([{"loss_nats": 1, "num_tokens": 1, "num_bytes": 1}]) is None


@pytest.mark.parametrize("broken", [{"task": "blimp"}, {"task": "none"}, 3])
def test_a_task_that_no_command_printed(material, put, broken):
    results = read_results(put(evaluate={"model": "m", "tasks": [broken]}))
    with pytest.raises(UserError, match=r"evaluate\.json is not what"):
        evaluation(dataclasses.replace(material, results=results))


def test_a_comparison_says_in_which_numbers(material):
    text = comparison(material)
    assert "in float32, but for those that transformers or onnxruntime opened: in the numbers of their files." in text


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("transformers:org/other-14m", "org/other-14m"),
        ("org/m", "org/m"),
        ("/home/me/runs/tiny/", "tiny"),
        ("./runs/tiny", "tiny"),
        ("stentor-12m", "stentor-12m"),
        ("a|b", "a\\|b"),
    ],
)
def test_models_are_called_by_id_or_by_the_last_of_their_path(material, put, model, shown):
    value = dict(material.results.of("compare")[0].value)
    value["models"] = [{**value["models"][0], "model": model}]
    text = comparison(dataclasses.replace(material, results=read_results(put(compare=value))))
    assert f"| {shown} | 32,928 |" in text
    assert "/home/me" not in text


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.floats(0.01, 9), loss=st.floats(0.01, 20), num_bytes=st.integers(1, 10**12))
def test_numbers_are_rounded_and_never_moved(bare, bits, loss, num_bytes):
    value = {"model": "m", "bits_per_byte": bits, "loss_nats": loss, "perplexity": np.exp(loss), "num_bytes": num_bytes}
    found = Found("evaluate", "x", Path("evaluate-x.json"), value)
    text = evaluation(dataclasses.replace(bare, results=Results((found,))))
    cells = [cell.strip(" *") for cell in text.splitlines()[2].split("|")[2:6]]
    read = [float(cell.replace(",", "")) for cell in cells]
    assert read[:2] == pytest.approx([bits, loss], abs=5.1e-5)
    assert read[2] == pytest.approx(np.exp(loss), abs=5.1e-3)
    assert read[3] == num_bytes


@pytest.mark.parametrize("text", [None, "", 5])
def test_a_text_without_a_name_is_held_out_text(material, put, text):
    value = {**material.results.of("evaluate")[0].value, "text": text}
    shown = evaluation(dataclasses.replace(material, results=read_results(put(evaluate=value))))
    assert f"| {'5' if text == 5 else 'held-out text'} | **1.2500** |" in shown


def test_texts_and_documents_of_no_bytes(material, put):
    """An empty document has the nats of its end and no bytes: alone it has no rate, beside others it counts."""
    documents = [
        {"loss_nats": 2.0, "num_tokens": 1, "num_bytes": 0},
        {"loss_nats": 2.0, "num_tokens": 9, "num_bytes": 9},
    ]
    interval = bits_interval(documents)
    assert interval is not None
    assert all(np.isfinite(interval))
    value = {**material.results.of("evaluate")[0].value, "documents": documents[:1] * 2}
    with pytest.raises(UserError, match=r"evaluate\.json is not what"):
        evaluation(dataclasses.replace(material, results=read_results(put(evaluate=value))))


def test_a_contamination_without_a_model_has_no_losses(material, put):
    value = {k: v for k, v in material.results.of("contamination")[0].value.items() if k != "losses"}
    text = seen_before(dataclasses.replace(material, results=read_results(put(contamination=value))))
    assert "documents, 407,221,380 bytes" in text
    assert "Bits per byte of" not in text


def test_a_task_of_lm_eval_without_an_error_has_a_dash(material, put):
    task = dict(material.results.of("evaluate")[0].value["tasks"][3])
    task["tasks"] = {"a|b": {"alias": "a", "acc,none": 0.5, "acc_stderr,none": "N/A", "n": 3}}
    results = read_results(put(evaluate={"model": "m", "tasks": [task]}))
    text = evaluation(dataclasses.replace(material, results=results))
    assert "| a\\|b | acc,none | 0.5000 | - |" in text


def test_each_text_that_was_tried_by_heart_is_named(material):
    (found,) = material.results.of("memorization")
    held_out = dataclasses.replace(found, name="val", value={**found.value, "training": "corpus/held-out.jsonl"})
    said = seen_before(dataclasses.replace(material, results=Results((found, held_out))))
    assert "Text: train." in said
    assert "Text: held-out." in said
    assert "training documents" not in said.partition("### Memorisation")[2]
