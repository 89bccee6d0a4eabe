"""Biases from the command line: a token is meant by its id or its text."""

from __future__ import annotations

import math

import pytest

from stentor.cli.sampling_options import biases_of
from stentor.errors import UsageError, UserError


def test_digits_are_an_id_and_all_else_is_text(tiny_tokenizer):
    (the,), (equals,) = tiny_tokenizer.encode(" the"), tiny_tokenizer.encode("=")
    biases = biases_of(["12=1.5", " the=-2", "==-inf"], tiny_tokenizer)
    assert biases == {12: 1.5, the: -2, equals: -math.inf}


def test_the_last_of_several_biases_of_a_token_counts(tiny_tokenizer):
    (the,) = tiny_tokenizer.encode(" the")
    assert biases_of([" the=1", f"{the}=2"], tiny_tokenizer) == {the: 2}


def test_no_options_are_no_biases(tiny_tokenizer):
    assert biases_of([], tiny_tokenizer) == {}


@pytest.mark.parametrize("option", ["", "12", "=1", "12=", "12=much"])
def test_what_is_not_a_token_and_a_number_is_refused(tiny_tokenizer, option):
    with pytest.raises(UsageError, match="is not TOKEN=BIAS") as caught:
        biases_of([option], tiny_tokenizer)
    assert caught.value.fix


def test_a_text_of_several_tokens_is_refused_with_their_ids(tiny_tokenizer):
    ids = tiny_tokenizer.encode(" the the")
    with pytest.raises(UserError) as caught:
        biases_of([" the the=1"], tiny_tokenizer)
    assert caught.value.message == f"--logit-bias wants one token, and ' the the' is {len(ids)}: {ids}"


def test_a_tokenmonster_text_is_looked_up_as_it_is_encoded(tiny_tokenmonster):
    (the,) = tiny_tokenmonster.encode(" the")
    assert biases_of([" the=3"], tiny_tokenmonster) == {the: 3}
