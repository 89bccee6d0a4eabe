"""Tasks by name: how they are written, what runs, and what all results say."""

from __future__ import annotations

import json
import sys

import pytest

from stentor.errors import MissingDependencyError, UserError
from stentor.evaluate.blimp import blimp, read_pairs
from stentor.evaluate.starting import Start
from stentor.evaluate.tasks import FORMS, Settings, Task, parse_task, run_task

PAIR = {
    "sentence_good": "the people were here",
    "sentence_bad": "the people was here",
    "field": "morphology",
    "linguistics_term": "agreement",
    "UID": "plural",
}


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("blimp=data/blimp", Task("blimp", "data/blimp")),
        ("choice=a=b.jsonl", Task("choice", "a=b.jsonl")),
        ("lm-eval=arc_easy, piqa", Task("lm-eval", "arc_easy, piqa")),
        ("lambada= x.jsonl ", Task("lambada", "x.jsonl")),
    ],
)
def test_a_task_is_a_kind_and_data(text, task):
    assert parse_task(text) == task


@pytest.mark.parametrize(
    ("text", "said", "fix"),
    [
        ("blmip=x", "there is no task 'blmip'", "did you mean 'blimp'"),
        ("x", "there is no task 'x'", "choice=FILE"),
        ("blimp", "the task 'blimp' has no data", "say blimp=FOLDER"),
        ("lm-eval= ", "the task 'lm-eval' has no data", "say lm-eval=NAME[,NAME]"),
    ],
)
def test_a_wrong_task_is_refused(text, said, fix):
    with pytest.raises(UserError) as caught:
        parse_task(text)
    assert said in caught.value.message
    assert fix in caught.value.fix


def test_every_kind_runs_and_says_what_it_ran(model, write_lines):
    files = {
        "blimp": write_lines("blimp.jsonl", PAIR),
        "choice": write_lines("choice.jsonl", {"query": "the", "choices": ["people", "of"], "gold": 0}),
        "lambada": write_lines("lambada.jsonl", {"context": "the people of", "continuation": "this"}),
    }
    assert {*files, "lm-eval"} == set(FORMS)
    for kind, path in files.items():
        seen: list[tuple[int, int]] = []
        found = run_task(
            model, Task(kind, str(path)), Settings(Start("bos")), on_progress=lambda *now, seen=seen: seen.append(now)
        )
        assert (found["task"], found["data"], found["start"]) == (kind, str(path), "bos")
        assert seen == [(1, 1)]
        json.dumps(found)


@pytest.mark.parametrize("space", [False, True])
def test_settings_reach_the_task(model, write_lines, space):
    path = write_lines("blimp.jsonl", PAIR, {**PAIR, "sentence_good": "one people", "sentence_bad": "two people"})
    found = run_task(model, Task("blimp", str(path)), Settings(space=space))
    assert found["space"] is space
    expected = blimp(model, read_pairs(path), space=space).to_dict()
    assert {key: found[key] for key in expected} == expected


def test_without_lm_eval_its_tasks_name_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "stentor.evaluate.lm_eval", raising=False)
    with pytest.raises(MissingDependencyError, match="a task of lm-eval needs the package 'lm_eval'") as caught:
        run_task(model, Task("lm-eval", "arc_easy"), Settings())
    assert "stentor[eval]" in caught.value.fix
