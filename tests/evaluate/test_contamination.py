"""Contamination: what overlaps, and the bits per byte with and without it."""

from __future__ import annotations

import json
import random

import pytest

from stentor.errors import UserError
from stentor.evaluate.contamination import contamination
from stentor.evaluate.parts import evaluate_parts

GENERATOR = random.Random(4)
DOCUMENTS = [
    (
        f"document {index}",
        " ".join(GENERATOR.choice(["people", "of", "this", "world", "were"]) + str(n % 7) for n in range(30)),
    )
    for index in range(4)
]
DOCUMENTS.append(("short", "of this"))


@pytest.fixture(scope="module")
def found(model):
    training = ["nothing of it", f"before {DOCUMENTS[1][1]} behind", " ".join(DOCUMENTS[3][1].split()[:15])]
    return contamination(DOCUMENTS, training, model=model)


def test_documents_are_told_apart(found):
    assert [overlap.is_clean for overlap in found.overlaps] == [True, False, True, False, True]
    assert found.overlaps[1].share == 1
    assert found.overlaps[3].num_found == 3


def test_losses_are_parts_of_one_evaluation(found, model):
    parts = evaluate_parts(model, (text for _, text in DOCUMENTS)).documents
    assert found.losses is not None
    for name, chosen in (("all", [0, 1, 2, 3, 4]), ("clean", [0, 2, 4]), ("overlapping", [1, 3])):
        loss = found.losses[name]
        bits = sum((parts[index].bits_per_byte or 0) * parts[index].num_bytes for index in chosen)
        assert loss.num_documents == len(chosen)
        assert loss.num_bytes == sum(len(DOCUMENTS[index][1]) for index in chosen)
        assert loss.bits_per_byte == pytest.approx(bits / loss.num_bytes)


def test_the_numbers_have_documented_names(found):
    value = json.loads(json.dumps(found.to_dict()))
    assert value["num_documents"] == 5
    assert value["num_overlapping_documents"] == 2
    assert value["num_short_documents"] == 1
    assert value["documents_above"] == {"0.0": 2, "0.1": 2, "0.5": 1, "0.9": 1}
    assert (value["num_ngrams"], value["num_found_ngrams"]) == (4 * 18, 18 + 3)
    assert value["num_training_documents"] == 3
    assert value["num_words"] == 13
    assert [entry["document"] for entry in value["documents"]] == [name for name, _ in DOCUMENTS]
    assert value["losses"]["clean"].keys() == {"bits_per_byte", "num_documents", "num_bytes"}


def test_without_a_model_there_are_no_losses():
    found = contamination(DOCUMENTS, [])
    assert found.losses is None
    assert "losses" not in found.to_dict()
    assert (found.num_training_documents, found.num_training_bytes) == (0, 0)


def test_what_does_not_exist_has_no_bits(model):
    found = contamination(DOCUMENTS, ["nothing"], model=model)
    assert found.losses is not None
    assert found.losses["overlapping"].bits_per_byte is None
    assert found.losses["overlapping"].num_documents == 0


def test_no_text_is_refused():
    with pytest.raises(UserError, match="no text to look for"):
        contamination([], ["a"])
