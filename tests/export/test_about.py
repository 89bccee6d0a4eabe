"""What a card says travels with the model: from README.md to GGUF and back, licence first."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace

import pytest
from gguf import GGUFReader
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from stentor.errors import UserError
from stentor.export.about import About, read_about
from stentor.export.gguf import export_gguf
from stentor.export.huggingface import export_huggingface
from stentor.export.reference import export_reference

CARD = """---
license: cc-by-sa-4.0
language:
- en
- no
tags: [tiny, stentor]
datasets:
- HuggingFaceFW/fineweb-edu
---

# A model

![picture](x.png)

It writes fluent English
and knows little.

More.
"""
ABOUT = About(
    license="cc-by-sa-4.0",
    description="It writes fluent English and knows little.",
    languages=("en", "no"),
    tags=("tiny", "stentor"),
)
plain = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@pytest.fixture
def described(models, tmp_path):
    """Return a folder with a card."""
    shutil.copytree(models["llama"], tmp_path / "described")
    (tmp_path / "described" / "README.md").write_text(CARD)
    return tmp_path / "described"


def metadata(path) -> dict:
    reader = GGUFReader(path)
    return {key: field.contents() for key, field in reader.fields.items() if key.startswith("general.")}


def test_a_card_is_read(described):
    assert read_about(described) == ABOUT


def test_its_own_description_goes_before_its_first_paragraph(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\ndescription: This one.\nlanguage: en\n---\nNot this one.\n")
    assert read_about(tmp_path) == About(license="mit", description="This one.", languages=("en",))


@pytest.mark.parametrize("card", ["", "# Title\n\nText.\n", "---\nno end\n", "---\n---\n", "--- x\na: b\n---\n"])
def test_a_card_without_metadata_says_nothing(tmp_path, card):
    (tmp_path / "README.md").write_text(card)
    assert read_about(tmp_path) == read_about(tmp_path / "nowhere") == About()


@pytest.mark.parametrize(
    "top", ["- a\n- b", "a: [b", "a: b: c", "!!python/object:x.y {}\n: ]", "{" * 1500, "some words"]
)
def test_metadata_that_is_no_table_is_refused_and_nothing_of_it_is_run(tmp_path, top):
    (tmp_path / "README.md").write_text(f"---\n{top}\n---\n")
    with pytest.raises(UserError, match=r"README\.md is no YAML table") as caught:
        read_about(tmp_path)
    assert "\n" not in caught.value.message


@given(st.text(max_size=80))
def test_any_metadata_is_read_or_refused(tmp_path_factory, top):
    (tmp_path_factory.getbasetemp() / "README.md").write_text(f"---\n{top}\n---\n", encoding="utf-8")
    with contextlib.suppress(UserError):
        read_about(tmp_path_factory.getbasetemp())


@given(plain, plain, st.lists(plain, max_size=3))
def test_front_matter_is_read_back_as_it_was_written_by_us_and_by_the_hubs_package(
    tmp_path_factory, license_name, description, tags
):
    folder = tmp_path_factory.getbasetemp()
    about = About(license="other", license_name=license_name, description=description, tags=tuple(tags))
    (folder / "README.md").write_text(about.readme("x"), encoding="utf-8")
    assert read_about(folder) == about
    assert ModelCard(about.front_matter()).data.to_dict()["license"] == "other"


def test_nothing_known_is_nothing_written(models, tmp_path):
    assert (About().front_matter(), About().readme("x"), About().gguf_metadata()) == ("", "", {})
    export_gguf(models["llama"], tmp_path / "m.gguf")
    assert {"general.license", "general.description", "general.tags"}.isdisjoint(metadata(tmp_path / "m.gguf"))


def test_a_gguf_file_carries_the_card_and_llama_cpp_opens_it(described, tmp_path):
    report = export_gguf(described, tmp_path / "m.gguf", dtype="q8_0")
    assert report.proof is not None
    assert report.proof.consumer.startswith("llama.cpp")
    assert metadata(tmp_path / "m.gguf") == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "m",
        "general.size_label": "95K",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "general.license": "cc-by-sa-4.0",
        "general.description": ABOUT.description,
        "general.languages": ["en", "no"],
        "general.tags": ["tiny", "stentor"],
    }
    assert read_about(tmp_path / "m.gguf") == ABOUT


@pytest.mark.usefixtures("in_process")
def test_the_card_goes_on_to_every_format_and_back_to_the_same_file(described, tmp_path):
    export_gguf(described, tmp_path / "a" / "m.gguf")
    export_huggingface(tmp_path / "a" / "m.gguf", tmp_path / "folder")
    assert read_about(tmp_path / "folder") == ABOUT
    export_reference(tmp_path / "folder", tmp_path / "reference")
    assert read_about(tmp_path / "reference") == ABOUT
    export_gguf(tmp_path / "reference", tmp_path / "b" / "m.gguf")
    assert (tmp_path / "b" / "m.gguf").read_bytes() == (tmp_path / "a" / "m.gguf").read_bytes()


@pytest.mark.slow
def test_what_a_mapped_tokenizer_costs_is_said_behind_the_description(monster_models, tmp_path):
    shutil.copytree(monster_models["llama"], tmp_path / "monster")
    (tmp_path / "monster" / "README.md").write_text(replace(ABOUT, languages=()).readme("monster"))
    export_gguf(tmp_path / "monster", tmp_path / "m.gguf")
    said = metadata(tmp_path / "m.gguf")["general.description"]
    assert said.startswith(ABOUT.description + " Trained with a TokenMonster vocabulary")
    assert metadata(tmp_path / "m.gguf")["general.license"] == "cc-by-sa-4.0"
