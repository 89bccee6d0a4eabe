"""Texts and training: licences, numbers of the log, phases, and a recipe without anybody's folders."""

from __future__ import annotations

import dataclasses
import shutil

from stentor.artifacts import write_file
from stentor.report.card.about import About, DataSource
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
