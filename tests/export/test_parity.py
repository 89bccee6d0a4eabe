from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stentor.errors import UserError
from stentor.export.parity import (
    Agreement,
    ExportReport,
    Proof,
    compare_logits,
    require_equal_ids,
    require_within,
)

LOGITS = hnp.arrays(np.float32, (3, 5), elements=st.floats(-20, 20, width=32))


def slow_kl(ours, theirs):
    """KL by its definition, one number at a time."""
    total = 0.0
    p = [math.exp(float(a)) for a in ours]
    q = [math.exp(float(a)) for a in theirs]
    for a, b in zip(p, q, strict=True):
        total += a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
    return total


@given(LOGITS, LOGITS)
def test_kl_equals_its_definition(ours, theirs):
    agreement = compare_logits(ours, theirs)
    expected = [slow_kl(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert agreement.mean_kl_nats == pytest.approx(sum(expected) / 3, rel=1e-9, abs=1e-9)
    assert agreement.max_kl_nats == pytest.approx(max(expected), rel=1e-9, abs=1e-9)


@given(LOGITS, LOGITS)
def test_log_probabilities_and_logits_compare_alike(ours, theirs):
    as_log_probs = (theirs - np.log(np.exp(theirs.astype(np.float64)).sum(axis=1, keepdims=True))).astype(np.float32)
    from_logits, from_log_probs = compare_logits(ours, theirs), compare_logits(ours, as_log_probs)
    assert from_log_probs.max_kl_nats == pytest.approx(from_logits.max_kl_nats, abs=1e-4)
    assert from_log_probs.max_logit_difference == pytest.approx(from_logits.max_logit_difference, abs=1e-4)


@given(LOGITS)
def test_a_model_agrees_with_itself(logits):
    assert compare_logits(logits, logits) == Agreement(0.0, 0.0, 0.0)


def test_the_worst_position_is_reported():
    ours, theirs = np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)
    theirs[2, 1] = 3.0
    agreement = compare_logits(ours, theirs)
    assert agreement.max_logit_difference == pytest.approx(2.5)
    assert agreement.max_kl_nats == pytest.approx(4 * agreement.mean_kl_nats)


def test_equal_ids_pass():
    require_equal_ids(["a", "b"], [[1], [2]], [[1], [2]], consumer="llama.cpp")


def test_other_ids_are_refused_with_count_and_first_example():
    ours, theirs = [[1], [2, 3], [4]], [[1], [2, 9], [5]]
    with pytest.raises(UserError, match=r"2 of 3 strings.*'hi \\r\\n': ours \[2, 3\], theirs \[2, 9\]"):
        require_equal_ids(["x", "hi \r\n", "y"], ours, theirs, consumer="llama.cpp")


def test_long_examples_are_cut():
    with pytest.raises(UserError) as caught:
        require_equal_ids(["x" * 5000], [list(range(1000))], [[]], consumer="llama.cpp")
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("value", [2e-4, math.inf, math.nan])
def test_a_value_above_its_limit_or_no_number_is_refused(value):
    with pytest.raises(UserError, match=r"the mean KL is .*, at most 0\.0001"):
        require_within("the mean KL", value, 1e-4, consumer="llama.cpp")


@pytest.mark.parametrize("value", [0.0, 1e-4])
def test_a_value_within_its_limit_passes(value):
    require_within("the mean KL", value, 1e-4, consumer="llama.cpp")


def test_report_says_whether_it_was_verified():
    report = ExportReport(path="x", format="gguf", dtype="q8_0", size_bytes=3, proof=None)
    assert report.to_dict() == {
        "path": "x",
        "format": "gguf",
        "dtype": "q8_0",
        "size_bytes": 3,
        "proof": None,
        "mapped_tokenizer": None,
        "variants": (),
        "remark": "",
        "verified": False,
    }
    agreement = Agreement(0.5, 0.25, 0.75)
    proof = Proof(consumer="c", num_strings=1, num_tokens=2, num_positions=3, stored=agreement, original=agreement)
    body = ExportReport(path="x", format="gguf", dtype="q8_0", size_bytes=3, proof=proof).to_dict()
    assert body["verified"] is True
    assert body["proof"]["stored"] == {"max_logit_difference": 0.5, "mean_kl_nats": 0.25, "max_kl_nats": 0.75}
