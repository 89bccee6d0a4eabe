"""Settings that cannot work are refused in one sentence, and single bytes are those of the published files."""

import pytest

from stentor.errors import UserError
from stentor.tokenizer.tokenmonster.training.settings import BYTE_SETS, TrainingSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "blanced"}, "did you mean 'balanced'"),
        ({"mode": "not trained"}, "there is no mode"),
        ({"capcode": 3}, "no capcode level 3"),
        ({"capcode": 0, "mode": "consistent"}, "needs capcode 1 or 2"),
        ({"capcode": 0, "mode": "strict"}, "needs capcode 1 or 2"),
        ({"single_bytes": "utf-8"}, "did you mean 'utf8'"),
        ({"min_occurrences": 1}, "use 2 or more"),
        ({"min_occurrences": -5}, "use 2 or more"),
        ({"seed": -1}, "seed -1"),
        ({"vocab_size": 190}, "ask for 191 "),
        ({"vocab_size": 10**9}, "to 120000"),
        ({"vocab_size": 0}, "cannot be learned"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        TrainingSettings(**wrong)


@pytest.mark.parametrize(
    ("name", "level"),
    [("english-8000-balanced-v1", 2), ("english-8000-strict-nocapcode-v1", 1), ("english-32000-balanced-v1", 2)],
)
def test_single_bytes_are_those_of_published_files(published, name, level):
    vocab = published(name)
    settings = TrainingSettings(capcode=level)
    assert {record.token for record in vocab.records if len(record.token) == 1} == settings.bytes_with_tokens
    assert settings.file_settings.reserve == vocab.settings.reserve


@pytest.mark.parametrize("name", ["english-4096-balanced-v1", "english-4096-strict-nocapcode-v1"])
def test_the_extended_set_is_that_of_small_published_files(published, name):
    vocab = published(name)
    settings = TrainingSettings(capcode=vocab.settings.capcode, single_bytes="extended")
    assert {record.token for record in vocab.records if len(record.token) == 1} == settings.bytes_with_tokens
    assert settings.file_settings.reserve == vocab.settings.reserve


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("name", BYTE_SETS)
def test_every_set_has_the_markers_and_plain_text(name, level):
    settings = TrainingSettings(single_bytes=name, capcode=level)
    found = settings.bytes_with_tokens
    assert settings.file_settings.delete_marker in {b"", *found}
    assert {bytes([byte]) for byte in b" abcxyz019.,\n\t\r"} <= found
    assert (b"A" in found) == (level < 2)


def test_the_fingerprint_knows_every_setting():
    first = TrainingSettings()
    others = [TrainingSettings(seed=1), TrainingSettings(mode="clean"), TrainingSettings(is_fast=True)]
    assert len({settings.fingerprint("x") for settings in [first, *others]} | {first.fingerprint("y")}) == 5
    assert first.fingerprint("x") == TrainingSettings().fingerprint("x")
