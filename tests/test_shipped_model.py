"""The model that ships with Stentor opens by its name, writes and scores English, and is what its page says."""

from __future__ import annotations

import pytest

import stentor
from stentor.model.locate import resolve_model
from stentor.model.weights import read_weights
from stentor.tokenizer import Tokenizer

TEXT = (
    "Water boils when its vapour pressure equals the pressure of the air around it. On a high mountain the air is "
    "thinner, so water boils at a lower temperature, and it takes longer to cook food in it."
)


@pytest.fixture(scope="module")
def model():
    return stentor.load("stentor-12m")


def test_it_is_of_the_reference_s_shape():
    config = read_weights("stentor-12m").config
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (256, 12, 8064)
    assert config.num_parameters == 12_295_936
    assert config.tie_word_embeddings


def test_its_two_tokenizers_are_one(model):
    beside = Tokenizer.load(resolve_model("stentor-12m").parent / "tokenizer.json")
    for text in (TEXT, "naïve café, 12.5 % — 東京\n\n\tend"):
        assert model.tokenizer.encode(text) == beside.encode(text)
        assert model.tokenizer.decode(beside.encode(text)) == text


def test_it_predicts_english_far_better_than_letters_at_random(model):
    scores = model.score(TEXT)
    bits_per_byte = -sum(scores.log_probs) / 0.6931 / len(TEXT)
    assert bits_per_byte < 1.3


def test_it_writes_the_same_text_again(model):
    first = model.generate("The history of computing began", max_new_tokens=20, seed=1)
    assert first == model.generate("The history of computing began", max_new_tokens=20, seed=1)
    assert len(first) > 20
