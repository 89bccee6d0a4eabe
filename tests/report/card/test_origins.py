"""Texts and training: licences, numbers of the log, phases, and a recipe without anybody's folders."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.artifacts import write_file
from stentor.report.card.about import About, DataSource
from stentor.report.card.markdown import code
from stentor.report.card.origins import data, recipe_text, training
from stentor.report.runs import open_run

SOURCES = (
    DataSource(name="Wiki", license="cc-by-sa-4.0", dataset="org/wiki", num_documents=5, num_bytes=1234, note="a | b"),
    DataSource(name="Tests", role="evaluation", url="https://example.org"),
)


def test_texts_with_their_licences(material):
    text = data(dataclasses.replace(material, about=About(license="mit", data=SOURCES)))
    wiki = "| [Wiki](https://huggingface.co/datasets/org/wiki) | training | cc-by-sa-4.0 | 5 | 1,234 | a \\| b |"
    assert wiki in text
    assert "| [Tests](https://example.org) | evaluation | not known | - | - |" in text
    assert "**Share-alike text** (100.0% of the counted bytes): Wiki" in text
    assert "Licence not known" not in text  # of training texts alone
    assert "Read from" not in text


def test_without_a_word_of_its_maker_the_recipe_speaks(material, bare):
    text = data(material)
    assert "**Sources and licences are not stated.**" in text
    assert "| Read from | `builtin:docs` |" in text
    assert "| Passes over the text | 1.50 |" in text
    assert "| Held out | a share of 0.02 of all documents, chosen by their hash |" in text
    assert (
        data(bare) == "**Sources and licences are not stated.** `[[data]]` in the file given as `--about` states them."
    )


def test_numbers_of_the_training(material):
    text = training(material)
    for row in (
        "| Updates | 1,000 of 1,000 |",
        "| Tokens | 100,000 |",
        "| Tokens an update | 256 |",
        "| Devices | 2 x NVIDIA H200 |",
        "| Time of the updates | 8.33 min |",
        "| Tokens a second, median | 200 |",
        "| Operations | 9.26e+12 FLOP, without teachers and evaluations |",
        "| Seed | 0 |",
    ):
        assert row in text
    assert "Taught by" not in text
    assert "Begun or gone on with" not in text
    assert "(report/curves.png)" in text
    assert "(report/dynamics.png)" in text


def test_results_and_phases(material):
    text = training(material)
    assert "**900**" in text
    assert "| best" not in text
    assert "**best**" in text
    assert "| after the best | 901 to 1,000 | 10,000 |" in text
    assert "The best evaluation is at step 900; by the last one the held-out loss had changed by +0.29" in text
    assert "The largest gradient norm, 1.00, was at step 1,000." in text
    assert "The largest logit was 12.5 at step 100 and 12.5 at step 1,000." in text


def test_a_last_evaluation_that_is_the_best(material):
    run = material.subject.run
    log = dataclasses.replace(run.log, evaluations=run.log.evaluations[:9])
    subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, log=log))
    text = training(dataclasses.replace(material, subject=subject))
    assert "The last evaluation, at step 900, is the best of 9." in text


def test_many_evaluations_are_thinned_but_the_best_stays(material, made):
    run = material.subject.run
    evaluations = tuple(made.evaluation(step, 2.0 if step == 777 else 3.0) for step in range(1, 1000))
    log = dataclasses.replace(run.log, evaluations=evaluations)
    subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, log=log))
    text = training(dataclasses.replace(material, subject=subject))
    assert "**777**" in text
    assert "| 999 |" in text
    assert "evaluations between them are left out" in text


def test_without_a_run(bare):
    assert training(bare) == "The run that made this model is not known here. `--run RUN` names it."


def test_the_recipe_shows_no_folders(run_folder, tmp_path):
    folder = shutil.copytree(run_folder, tmp_path / "r")
    recipe = (folder / "recipe.toml").read_text()
    changed = recipe.replace('source = "builtin:docs"', 'source = "/home/me/secret/edu-*.jsonl.zst"')
    changed = changed.replace("teachers = []", 'teachers = ["/tmp/runs/t0", "runs/t1"]')
    assert changed.count("/") > recipe.count("/")
    write_file(folder / "recipe.toml", changed)
    text = recipe_text(open_run("r", folder))
    assert 'source = "edu-*.jsonl.zst"' in text
    assert 'teachers = ["t0", "runs/t1"]' in text
    assert "/home/me" not in text


def with_run(material, *, settings=(), **start):
    """Return a material whose run has other settings, or said other things of itself."""
    run = material.subject.run
    log = dataclasses.replace(run.log, starts=({**run.start, **start},))
    run = dataclasses.replace(run, settings={**run.settings, **dict(settings)}, log=log)
    return dataclasses.replace(material, subject=dataclasses.replace(material.subject, run=run))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("/home/me/a.txt=0.5, /home/me/b/*.txt=0.5", "a.txt=0.5, *.txt=0.5"),
        ("texts/a.txt=0.5,hf:org/edu:x:train=0.5", "texts/a.txt=0.5,hf:org/edu:x:train=0.5"),
        ("file:/home/me/held-out.jsonl", "file:held-out.jsonl"),
        ("~/texts/a.txt", "a.txt"),
        ("~nobody-here/a.txt", "a.txt"),
        (r"C:\Users\me\a.txt", "a.txt"),
        ("/home/j\u00f6rg/\u65e5\u672c.txt", "\u65e5\u672c.txt"),
        ('/home/me/"quoted".txt', '"quoted".txt'),
        ("~12M tokens", "~12M tokens"),
        ("builtin:docs", "builtin:docs"),
    ],
)
def test_no_form_of_a_source_shows_folders(material, run_folder, tmp_path, source, shown):
    folder = shutil.copytree(run_folder, tmp_path / "r")
    recipe = (folder / "recipe.toml").read_text()
    written = recipe.replace('"builtin:docs"', json.dumps(source, ensure_ascii=False))
    write_file(folder / "recipe.toml", written.replace('description = ""', 'description = "/really/, a ~test"'))
    text = recipe_text(open_run("r", folder))
    assert tomllib.loads(text)["text"]["source"] == shown
    assert tomllib.loads(text)["description"] == "/really/, a ~test"
    assert f"| Read from | {code(shown)} |" in data(with_run(material, settings={"text.source": source}))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.text("abcDEF .-_\u00e9", min_size=1).filter(lambda part: part.strip(" .")), min_size=1, max_size=4
    )
)
def test_folders_are_nobodys_business(material, parts):
    source = "/".join(["/home/secretly", *parts])
    assert "secretly" not in data(
        with_run(material, settings={"text.source": source, "text.validation": f"file:{source}"})
    )


@pytest.mark.parametrize("wrong", [None, "text", [], {}])
@pytest.mark.parametrize("name", ["num_steps", "num_epochs", "num_processes", "num_threads", "precision", "torch"])
def test_a_log_that_says_nothing_useful_of_itself(material, name, wrong):
    """What a later version, or a hand, wrote in the place of a number is left out: the card is about the rest."""
    text = data(with_run(material, **{name: wrong})) + training(with_run(material, **{name: wrong}))
    assert "| Updates | 1,000 of 1,000 |" in text
    assert ("Passes over the text" in text) is (name != "num_epochs")


@pytest.mark.parametrize("name", ["text.min_characters", "text.max_bytes", "train.global_batch_tokens"])
def test_settings_that_are_no_numbers_are_left_out(material, name):
    text = data(with_run(material, settings={name: "many"})) + training(with_run(material, settings={name: "many"}))
    assert "many" not in text.partition("### Recipe")[0]


def test_a_cpu_has_threads_and_a_run_can_be_gone_on_with(material):
    text = training(with_run(material, device_name="cpu", num_threads=4, num_teacher_parameters=48_000_000))
    assert "| Devices | CPU, 4 threads |" in text
    assert "| Taught by | models of 48,000,000 parameters in all |" in text
    run = material.subject.run
    twice = dataclasses.replace(run.log, starts=run.log.starts * 2)
    subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, log=twice))
    assert "| Begun or gone on with | 2 times |" in training(dataclasses.replace(material, subject=subject))


def test_addresses_and_names_of_texts_are_no_markup(material):
    source = DataSource(name="A [b](c) | d", license="m|t", url="https://e.org/(a) b|c", note="*n*")
    text = data(dataclasses.replace(material, about=About(data=(source,))))
    rendered = MarkdownIt().enable("table").render(text)
    assert '<a href="https://e.org/%28a%29%20b%7Cc">A [b](c) | d</a>' in rendered
    assert "<td>m|t</td>" in rendered
    assert "*n*" in rendered


@pytest.mark.parametrize(
    ("validation", "said"),
    [
        ("take:9", "the first 9 documents"),
        ("hash:0.05", "a share of 0.05 of all documents, chosen by their hash"),
        ("file:/home/me/v.jsonl", "a source of its own"),
    ],
)
def test_what_was_held_out(material, validation, said):
    assert f"| Held out | {said} |" in data(with_run(material, settings={"text.validation": validation}))
