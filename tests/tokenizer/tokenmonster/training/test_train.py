"""Whole trainings on little text: the file keeps every rule, and nothing but text and settings decides it."""

import subprocess
import sys
import time

import pytest

from stentor.errors import UserError
from stentor.tokenizer import Tokenizer
from stentor.tokenizer.tokenmonster.rules import check_rules
from stentor.tokenizer.tokenmonster.training import train as module
from stentor.tokenizer.tokenmonster.training.filters_reference import MODES, Filter
from stentor.tokenizer.tokenmonster.training.settings import TrainingSettings
from stentor.tokenizer.tokenmonster.training.train import train_tokenmonster
from stentor.tokenizer.tokenmonster.vocab_file import pack_vocab, parse_vocab

SIZE = 260


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**{"vocab_size": SIZE, "is_fast": True, **changes})


@pytest.fixture(scope="module")
def trained(texts):
    return train_tokenmonster(texts, settings(), num_workers=1)


def test_the_file_keeps_the_rules_of_the_format(trained, tmp_path):
    vocab = trained.vocab
    assert (vocab.num_ids, vocab.end_id, trained.vocab_size) == (SIZE, SIZE, SIZE + 3)
    assert check_rules(vocab) is None
    assert parse_vocab(pack_vocab(vocab), "new") == vocab
    trained.save(tmp_path / "new")
    loaded = Tokenizer.load(tmp_path / "new")
    assert loaded.sha256 == trained.sha256
    assert (vocab.settings.mode, vocab.settings.capcode, vocab.settings.reserve) == (2, 2, 36)


def test_text_comes_back_and_takes_few_tokens(trained, texts):
    ids = trained.encode_batch(texts)
    assert all(trained.keeps(text) for text in texts if "\u00e9" not in text and "\u00ef" not in text)
    assert sum(map(len, ids)) < 0.35 * sum(map(len, texts))


def test_scores_are_shares_of_the_bytes(trained, texts):
    used = {token_id for ids in trained.encode_batch(texts) for token_id in ids}
    scores = {record.id: record.score for record in trained.vocab.records if not record.is_duplicate}
    assert {token_id for token_id, score in scores.items() if score > 0} == used
    assert 0.99 < sum(scores.values()) < 1.1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("capcode", [0, 1, 2])
def test_every_token_passes_the_rules_of_its_mode(mode, capcode, texts):
    if capcode == 0 and mode in ("consistent", "strict"):
        return
    tokenizer = train_tokenmonster(texts, settings(mode=mode, capcode=capcode, vocab_size=330), num_workers=2)
    rules, prefix = Filter(mode, capcode), tokenizer.vocab.settings.delete_marker + b" "
    for record in tokenizer.vocab.records:
        if len(record.token) > 1 and not record.is_duplicate:
            spellings = (record.token, prefix + record.token)
            assert any(rules.accepts(spelling, after) for spelling in spellings for after in (b"a", b"1", b"."))
    assert tokenizer.vocab.num_ids == 330


def test_threads_do_not_matter_but_seeds_may(trained, texts):
    assert train_tokenmonster(texts, settings(), num_workers=3).sha256 == trained.sha256
    assert train_tokenmonster(iter(texts), settings(seed=9), num_workers=2).vocab.num_ids == SIZE


def test_a_text_that_is_too_small_is_told_how_many_tokens_it_gives():
    with pytest.raises(UserError, match=r"gives only (\d+) tokens, 8000 were asked for") as caught:
        train_tokenmonster(["a few words, a few words only"], TrainingSettings(is_fast=True))
    number = int(str(caught.value).split("only ")[1].split()[0])
    found = train_tokenmonster(["a few words, a few words only"], TrainingSettings(is_fast=True, vocab_size=number))
    assert found.vocab.num_ids == number


def test_a_rare_substring_is_looked_at_where_there_are_too_few(texts):
    with pytest.raises(UserError, match="gives only"):
        train_tokenmonster(texts, settings(min_occurrences=10_000))
    assert train_tokenmonster(texts, settings(vocab_size=1200)).vocab.num_ids == 1200


def test_other_scripts_and_all_bytes_on_request():
    russian = ["\u0441\u043b\u043e\u0432\u043e \u0438 \u0434\u0435\u043b\u043e " * 50]
    latin_only = train_tokenmonster([*russian, "word and deed " * 50], settings(vocab_size=200))
    every = train_tokenmonster(russian, settings(vocab_size=250, only_latin=False, single_bytes="all"))
    assert not any(record.token[:1] > b"\x7f" and len(record.token) > 1 for record in latin_only.vocab.records)
    assert any(" \u0434\u0435\u043b\u043e".encode() in record.token for record in every.vocab.records)
    assert every.keeps("any \u4e2d\x00\x07 text")


@pytest.mark.slow
def test_a_pool_too_large_for_the_tables_is_made_smaller(texts, monkeypatch):
    from stentor.tokenizer.tokenmonster.training import pool

    monkeypatch.setattr(pool, "MAX_RECORDS", 900)
    assert train_tokenmonster(texts, settings()).vocab.num_ids == SIZE


class StoppedError(Exception):
    pass


def test_a_stopped_training_goes_on_to_the_same_file(trained, texts, tmp_path):
    said = []

    def stop(detail: str, share: float | None) -> None:
        said.append(detail)
        if detail.startswith("swap 3"):
            raise StoppedError

    with pytest.raises(StoppedError):
        train_tokenmonster(texts, settings(), state_dir=tmp_path / "state", say=stop)
    said.clear()
    resumed = train_tokenmonster(
        texts, settings(), state_dir=tmp_path / "state", say=lambda *what: said.append(what[0])
    )
    assert resumed.sha256 == trained.sha256
    assert said[0] == "going on where an earlier run was stopped"
    assert said[1].startswith("swap 4")
    assert not (tmp_path / "state").exists()


def test_other_settings_start_anew(texts, tmp_path):
    def stop(detail: str, share: float | None) -> None:
        if detail.startswith("swap 1"):
            raise StoppedError

    with pytest.raises(StoppedError):
        train_tokenmonster(texts, settings(), state_dir=tmp_path, say=stop)
    said: list[str] = []
    train_tokenmonster(texts, settings(mode="clean"), state_dir=tmp_path, say=lambda *what: said.append(what[0]))
    assert not any("earlier run" in detail for detail in said)


SCRIPT = """
import sys
from pathlib import Path
from stentor.text.sources import read_texts
from stentor.tokenizer.tokenmonster.training.settings import TrainingSettings
from stentor.tokenizer.tokenmonster.training.train import train_tokenmonster
source, state = sys.argv[1:]
settings = TrainingSettings(vocab_size=400, is_fast=True)
say = lambda detail, share: print(detail, flush=True)
print("sha256", train_tokenmonster(read_texts(source), settings, state_dir=Path(state), say=say).sha256)
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_file(texts, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(texts * 40), encoding="utf-8")

    def run(state: str, kill_at: str = "") -> list[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "text.txt"), str(tmp_path / state)]
        lines = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                lines.append(line.strip())
                if kill_at and line.startswith(kill_at):
                    process.kill()
                    break
        return lines

    expected = run("whole")[-1]
    assert expected.startswith("sha256")
    run("killed", "pruning")
    run("killed", "swap 2")
    time.sleep(0.1)
    resumed = run("killed")
    assert resumed[0] == module._RESUMED
    assert resumed[-1] == expected
