"""The YAML of a card: read back by huggingface_hub as it was meant, and refused where the Hub would refuse it."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import MissingDependencyError, UserError
from stentor.report.card.about import About, DataSource
from stentor.report.card.metadata import card_data, data_name, datasets, eval_results, require_valid
from stentor.report.card.results import Found, Results, read_results
from stentor.report.card.subject import Material
from stentor.report.card.write import render_card

ABOUT = About(name="A model", license="mit", languages=("en",), tags=("mine",), repo="org/m")


def with_about(material: Material, about: About) -> Material:
    return dataclasses.replace(material, about=about)


def read_back(material: Material) -> Any:
    """Return the metadata as huggingface_hub reads it."""
    return ModelCard(f"---\n{card_data(material).to_yaml()}\n---\n# Text\n").data


def test_all_of_it_comes_back(material):
    data = read_back(with_about(material, ABOUT))
    assert (data.license, data.language, data.library_name) == ("mit", ["en"], "transformers")
    assert (data.pipeline_tag, data.model_name) == ("text-generation", "A model")
    assert data.tags == ["stentor", "llama", "base-model", "mine"]
    assert data.eval_results == eval_results(with_about(material, ABOUT))


def test_results_are_those_of_the_files(material):
    found = {(result.dataset_name, result.metric_type, result.metric_name): result for result in eval_results(material)}
    assert found["held-out text", "bits_per_byte", "Bits per byte"] == EvalResult(
        task_type="text-generation", task_name="Text generation", dataset_type="held-out-text",
        dataset_name="held-out text", metric_type="bits_per_byte", metric_name="Bits per byte", metric_value=1.25,
    )  # fmt: skip
    assert found["BLiMP", "accuracy", "Accuracy, mean over paradigms"].metric_value == 0.6895
    assert found["science", "accuracy", "Accuracy"].metric_value == 0.3
    assert found["LAMBADA", "accuracy", "Accuracy"].metric_value == 0.12
    assert found["arc_easy (lm-eval)", "acc", "acc,none"].metric_value == 0.41
    assert len(found) == 7


def test_windows_that_overlap_are_named(material):
    (good,) = material.results.of("evaluate")
    strided = dataclasses.replace(good, name="strided", value={**good.value, "stride": 512})
    found = eval_results(dataclasses.replace(material, results=Results((good, strided))))
    names = {result.dataset_name for result in found if result.metric_type == "bits_per_byte"}
    assert names == {"held-out text", "strided, windows 512 tokens apart"}


def test_a_part_of_blimp_is_not_called_blimp(material):
    (good,) = material.results.of("evaluate")
    tasks = [{**task, "is_whole": False, "num_pairs": 2010} for task in good.value["tasks"] if task["task"] == "blimp"]
    part = dataclasses.replace(good, value={**good.value, "tasks": tasks})
    found = eval_results(dataclasses.replace(material, results=Results((part,))))
    assert {result.dataset_name for result in found} >= {"2,010 pairs of BLiMP"}
    assert "BLiMP" not in {result.dataset_name for result in found}


def test_the_run_speaks_where_nothing_was_evaluated(material, bare):
    only_run = dataclasses.replace(bare, subject=material.subject)
    results = eval_results(only_run)
    assert {result.dataset_name for result in results} == {"Held-out text of the training"}
    assert results[0].metric_value == pytest.approx(material.subject.run.best["bits_per_byte"], rel=1e-5)


def test_a_model_alone_has_no_index(bare):
    data = read_back(bare).to_dict()
    assert "model-index" not in data
    assert "license" not in data
    assert data["tags"] == ["stentor", "llama", "base-model"]


def test_datasets_are_those_stated_else_those_of_the_recipe(material):
    run = material.subject.run
    settings = {**run.settings, "text.source": "hf:org/edu:sample:train"}
    subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, settings=settings))
    recipe_alone = dataclasses.replace(material, subject=subject)
    assert datasets(recipe_alone) == ["org/edu"]
    sources = (DataSource(name="a", dataset="org/a"), DataSource(name="b", dataset="org/b", role="evaluation"))
    assert datasets(with_about(recipe_alone, About(data=sources))) == ["org/a"]
    assert datasets(material) == []


@pytest.mark.parametrize("license_id", ["Apache 2.0", "apache", "psf-2.0", "MIT"])
def test_a_licence_the_hub_does_not_know_is_refused(bare, license_id):
    with pytest.raises(UserError, match="is none that the Hugging Face Hub knows"):
        card_data(with_about(bare, About(license=license_id)))


def test_a_licence_of_its_own_is_named(bare):
    about = About(license="other", license_name="mine", license_link="https://example.org")
    data = read_back(with_about(bare, about))
    assert (data.license, data.license_name, data.license_link) == ("other", "mine", "https://example.org")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.25", None, True])
def test_values_that_are_no_numbers_are_refused(material, value):
    data = copy.deepcopy(card_data(material).to_dict())
    require_valid(data)
    data["model-index"][0]["results"][0]["metrics"][0]["value"] = value
    with pytest.raises(UserError, match="not a finite number"):
        require_valid(data)


@pytest.mark.parametrize(("part", "key"), [("task", "type"), ("dataset", "type"), ("dataset", "name")])
def test_results_without_task_or_dataset_are_refused(material, part, key):
    data = copy.deepcopy(card_data(material).to_dict())
    data["model-index"][0]["results"][0][part][key] = ""
    with pytest.raises(UserError, match="no task or no dataset"):
        require_valid(data)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/edu-val.jsonl.zst", "edu-val"),
        ("builtin:docs", "builtin:docs"),
        ("data/blimp/", "blimp"),
        ("a.txt", "a"),
    ],
)
def test_names_of_texts_show_no_folders(source, name):
    assert data_name(source) == name


def test_without_huggingface_hub_its_extra_is_named(bare, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match="huggingface_hub") as raised:
        card_data(bare)
    assert raised.value.fix == "pip install 'stentor[report]'"


@pytest.mark.parametrize(
    ("source", "ids"),
    [
        ("hf:org/a=0.7,hf:org/b:c:train=0.3", ["org/a", "org/b"]),
        ("hf:org/a::validation", ["org/a"]),
        ("texts/hf:org/a.txt", []),
        ("a.txt=1, hf:org/edu-2.0=2, hf:org/edu-2.0:x=1", ["org/edu-2.0"]),
        ("builtin:docs", []),
    ],
)
def test_every_dataset_of_a_mix_is_named_once(material, source, ids):
    run = material.subject.run
    subject = dataclasses.replace(
        material.subject, run=dataclasses.replace(run, settings={**run.settings, "text.source": source})
    )
    assert datasets(dataclasses.replace(material, subject=subject)) == ids
    assert read_back(dataclasses.replace(material, subject=subject)).datasets == (ids or None)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("texts/*.txt", "texts"),
        ("texts/edu-*.jsonl.zst", "edu-*"),
        (r"C:\Users\me\held-out.txt", "held-out"),
        ("/home/me/a.txt=0.5,/home/me/b.jsonl=0.5", "a + b"),
        ("hf:org/edu:sample:train", "edu:sample:train"),
        ("/home/me/a,b.txt", "a,b"),
        ("a.txt=1", "a"),
        ("*.txt", "*.txt"),
        (".", "."),
        ("\u65e5\u672c.txt", "\u65e5\u672c"),
    ],
)
def test_names_of_other_sources(source, name):
    assert data_name(source) == name


@given(st.text(max_size=30))
def test_a_source_always_has_a_name(source):
    assert data_name(source) or not source


def evaluated(bare: Material, put: Any, **texts: float) -> Material:
    values = {
        f"evaluate-{name}": {"model": "m", "loss_nats": 1.0, "perplexity": 2.7183, "bits_per_byte": bits}
        for name, bits in texts.items()
    }
    return dataclasses.replace(bare, results=read_results(put(**values)))


def test_texts_whose_names_are_alike_stay_apart(bare, put):
    """The Hub joins results whose datasets have one identifier, under the first one's name."""
    many = evaluated(bare, put, **{"\u65e5\u672c": 1.0, "\u4e2d\u56fd": 2.0, "a b": 3.0, "A-B": 4.0, "a-b-2": 5.0})
    made = eval_results(many)
    assert len({result.dataset_type for result in made}) == 5
    bits = {r.dataset_name: r.metric_value for r in read_back(many).eval_results if r.metric_type == "bits_per_byte"}
    assert bits == {"\u65e5\u672c": 1.0, "\u4e2d\u56fd": 2.0, "a b": 3.0, "A-B": 4.0, "a-b-2": 5.0}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bits=st.floats(1e-3, 30), name=st.text("abc:#&*!|>'\"%@`{}[]-? ", min_size=1, max_size=12))
def test_the_yaml_holds_any_name_and_number(bare, bits, name):
    value = {"model": "m", "loss_nats": bits, "perplexity": bits, "bits_per_byte": bits}
    found = Found("evaluate", name, Path("evaluate.json"), value)
    about = About(name=name.strip() or "x", license="mit", tags=(name,))
    data = read_back(dataclasses.replace(bare, about=about, results=Results((found,))))
    assert {result.dataset_name for result in data.eval_results} == {name}
    assert [result.metric_value for result in data.eval_results] == [float(f"{bits:.6g}")] * 3
    assert data.tags[-1] == name
    assert data.model_name == about.name


def test_the_whole_card_is_read_back_by_huggingface_hub(material, tmp_path):
    """As a user of the Hub's package reads it: a file, whose text has no metadata in it any more."""
    text, _ = render_card(with_about(material, ABOUT))
    write_file(path := tmp_path / "README.md", text)
    card = ModelCard.load(path)
    assert card.data.to_dict() == card_data(with_about(material, ABOUT)).to_dict()
    assert card.text.lstrip().startswith("# A model\n")
    assert "model-index" not in card.text.partition("\n")[0]
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
