"""Runs beside each other: their numbers, the settings that differ, and what cannot be compared."""

from __future__ import annotations

import dataclasses
import json

import pytest

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.run_log import RunLog
from stentor.report.runs import comparability, differing_settings, open_run


def write_run(folder, made, recipe: str = 'name = "x"\n[train]\nlr = 1e-3\n[model]\nhidden_size = 8\n'):
    write_file(folder / "recipe.toml", recipe)
    records = [made.start(), made.train(1), made.train(2), made.evaluation(2, 4.0)]
    write_file(folder / "log.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    return folder


# --- opening ------------------------------------------------------------------------------------------------


def test_a_run_is_opened_with_its_settings_and_log(tmp_path, made):
    opened = open_run("mine", write_run(tmp_path / "run", made))
    assert opened.settings == {"name": "x", "train.lr": 1e-3, "model.hidden_size": 8}
    assert (opened.name, opened.path) == ("mine", tmp_path / "run")
    assert [record["step"] for record in opened.log.train] == [1, 2]


@pytest.mark.parametrize("missing", ["recipe.toml", "log.jsonl"])
def test_what_is_no_run_is_refused(tmp_path, made, missing):
    (write_run(tmp_path / "run", made) / missing).unlink()
    with pytest.raises(UserError, match=f"is no run: it has no {missing}"):
        open_run("mine", tmp_path / "run")
    with pytest.raises(UserError, match=r"is no run: it has no recipe\.toml"):
        open_run("mine", tmp_path / "nothing")


@pytest.mark.parametrize("recipe", ["name = ", "\x00", "[" * 5000])
def test_a_damaged_recipe_is_one_sentence(tmp_path, made, recipe):
    with pytest.raises(UserError, match=r"recipe\.toml cannot be read"):
        open_run("mine", write_run(tmp_path / "run", made, recipe))


def test_a_run_that_has_only_begun_is_refused(tmp_path, made):
    folder = write_run(tmp_path / "run", made)
    write_file(folder / "log.jsonl", json.dumps(made.start()) + "\n")
    with pytest.raises(UserError, match="holds no record of a run"):
        open_run("mine", folder)


# --- numbers ------------------------------------------------------------------------------------------------


def test_numbers_of_a_run(made):
    assert made.run("a", [4.0, 3.0, 3.5]).to_dict() == {
        "run": "runs/a",
        "num_parameters": 12_294_400,
        "step": 30,
        "tokens_seen": 3_000,
        "best_step": 20,
        "best_loss_nats": 3.0,
        "best_bits_per_byte": 1.5,
        "last_loss_nats": 3.5,
        "last_bits_per_byte": 1.75,
        "tokens_per_second": 200.0,
        "mfu": pytest.approx(200 * 92_602_368 / 989e12),
        "seconds": 15.0,
    }


def test_speed_is_a_median_that_a_slow_first_update_does_not_move(made):
    updates = (made.train(1, tokens_per_second=2.0), *(made.train(step) for step in range(2, 9)))
    assert dataclasses.replace(made.run("a", []), log=RunLog(updates, ())).tokens_per_second == 200.0


def test_what_is_not_known_is_none(made):
    bare = {"kind": "train", "step": 3, "tokens_seen": 9, "loss_nats": 2.0}
    value = dataclasses.replace(made.run("a", []), log=RunLog((bare,), ())).to_dict()
    known = {"run", "step", "tokens_seen", "seconds"}
    assert {name for name, number in value.items() if number is not None} == known


# --- settings -----------------------------------------------------------------------------------------------


def test_only_settings_that_differ_are_listed(made):
    first, second = made.run("a", [4.0]), made.run("b", [4.0])
    assert differing_settings([first, second]) == {}, "a name is no setting"
    changed = dataclasses.replace(second, settings={**second.settings, "train.lr": 2e-3, "train.new": "x"})
    assert differing_settings([first, changed, second]) == {
        "train.lr": [1e-3, 2e-3, 1e-3],
        "train.new": [None, "x", None],
    }
    assert differing_settings([changed]) == {}


# --- what compares ------------------------------------------------------------------------------------------


def test_runs_on_the_same_held_out_ids_compare(made):
    assert comparability([made.run("a", [4.0]), made.run("b", [3.0]), made.run("c", [5.0])]) == []


def test_another_tokenizer_on_the_same_text_compares_in_bits_per_byte(made):
    other = made.run("b", [3.0], counts=(80, 400), held_out_sha256="other ids", tokenizer_sha256="other tokens")
    assert comparability([made.run("a", [4.0]), other]) == [
        "b has another tokenizer than a: compare bits per byte, not nats"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": (100, 500), "held_out_sha256": "other ids"},
        {"counts": (100, 400), "held_out_sha256": "other ids"},
        {"counts": (80, 500), "held_out_sha256": "other ids", "tokenizer_sha256": "other tokens"},
    ],
    ids=["longer", "as long", "another tokenizer too"],
)
def test_other_held_out_text_does_not_compare_at_all(made, changes):
    (sentence,) = comparability([made.run("a", [4.0]), made.run("b", [3.0], **changes)])
    assert sentence == (
        "b was measured on other held-out text than a: neither their nats nor their bits per byte compare"
    )


def without_checksums(run):
    start = {name: value for name, value in run.start.items() if not name.endswith("sha256")}
    return dataclasses.replace(run, log=dataclasses.replace(run.log, starts=(start,)))


def test_an_older_log_is_compared_by_its_counts(made):
    new, old = made.run("a", [4.0]), without_checksums(made.run("b", [3.0]))
    assert comparability([new, old]) == comparability([old, new]) == []
    fewer_tokens = without_checksums(made.run("c", [3.0], counts=(80, 400)))
    assert comparability([old, fewer_tokens]) == ["c has another tokenizer than b: compare bits per byte, not nats"]
    assert "other held-out text" in comparability([new, without_checksums(made.run("d", [3.0], counts=(80, 300)))])[0]


def test_a_run_that_was_not_evaluated_is_compared_with_nothing(made):
    begun = dataclasses.replace(made.run("b", []), log=RunLog((made.train(1),), ()))
    assert comparability([begun, made.run("a", [4.0]), begun]) == []
    assert comparability([begun]) == []
    assert comparability([]) == []
