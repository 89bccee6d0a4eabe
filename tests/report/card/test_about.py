"""What a maker states, read from TOML: every key, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stentor.artifacts import write_file
from stentor.errors import UserError
from stentor.report.card.about import About, DataSource, Power, Work, read_about

WHOLE = """
name = "m"
year = 2026
license = "mit"
languages = ["en", "pt-BR"]
repo = "org/m"
limits = ["It stops."]
[[data]]
name = "wiki"
license = "cc-by-sa-4.0"
dataset = "org/wiki"
num_bytes = 12
[[data]]
name = "held out"
role = "evaluation"
[[related]]
title = "T"
url = "https://example.org"
[energy]
watts = 70
source = "the data sheet"
"""


def test_all_of_it_is_read(tmp_path):
    write_file(path := tmp_path / "card.toml", WHOLE)
    about = read_about(path)
    assert (about.name, about.year, about.languages, about.limits) == ("m", 2026, ("en", "pt-BR"), ("It stops.",))
    wiki = DataSource(name="wiki", license="cc-by-sa-4.0", dataset="org/wiki", num_bytes=12)
    assert about.data == (wiki, DataSource(name="held out", role="evaluation"))
    assert about.of_role("training") == [wiki]
    assert about.related == (Work(title="T", url="https://example.org"),)
    assert about.energy == Power(watts=70.0, source="the data sheet")


def test_nothing_is_needed(tmp_path):
    write_file(path := tmp_path / "card.toml", "")
    assert read_about(path) == About()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nmae = 'x'", "there is no key nmae\n  fix: did you mean 'name'?"),
        ("name = 3", "name is 3, not a string"),
        ("year = true", "year is True, not a whole number"),
        ("year = -1", "year is -1"),
        ("languages = 'en'", "not a list of strings"),
        ("languages = ['English!']", "languages has 'English!'"),
        ("repo = 'no-owner'", "no id of the Hub"),
        ("license = 'other'", "has no name"),
        ("data = 3", "data is not a list"),
        ("[data]\nname='x'", "data is not a list"),
        ("[[data]]\nlicense='mit'", "has no name"),
        ("[[data]]\nname='x'\nrole='train'", "data.role is 'train'"),
        ("[[data]]\nname='x'\ndataset='x'", "no id of the Hub"),
        ("[[data]]\nname='x'\nbytes=1", "there is no key data.bytes"),
        ("data = [1]", "data is a section"),
        ("[[related]]\ntitle='x'", "no url"),
        ("[energy]\nwatts=nan", "energy.watts is nan"),
        ("[energy]\nwatts=70", "no source"),
        ("[energy]\npue=0.5", "energy.pue is 0.5"),
        ("energy = 1", "energy is a section"),
        ("name = ", "is not valid TOML"),
    ],
)
def test_mistakes_are_named_with_the_file(tmp_path, text, sentence):
    write_file(path := tmp_path / "card.toml", text)
    with pytest.raises(UserError) as raised:
        read_about(path)
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)
    assert raised.value.fix


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_about(tmp_path / "card.toml")


SECTIONS = [(About, ""), (DataSource, "[[data]]\n"), (Work, "[[related]]\n"), (Power, "[energy]\n")]
KEYS = [
    (header, one.name, type(one.default))
    for made, header in SECTIONS
    for one in fields(made)
    if one.name not in ("data", "related", "energy")
]
OF_OTHER_TYPES = {str: ["3", "true", "['x']"], int: ["'3'", "1.5", "true", "[1]"], float: ["'3'", "true", "[1.0]"],
                  tuple: ["'x'", "[1]", "['']", "3"]}  # fmt: skip


@pytest.mark.parametrize(("header", "key", "kind"), KEYS, ids=lambda one: str(one).strip())
def test_a_value_of_another_type_is_named_by_its_key(tmp_path, header, key, kind):
    section = header.strip("[]\n")
    for wrong in OF_OTHER_TYPES[kind]:
        write_file(path := tmp_path / "card.toml", f"{header}{key} = {wrong}\n")
        with pytest.raises(UserError) as raised:
            read_about(path)
        assert f"{path}: {section}{'.' * bool(section)}{key} is " in str(raised.value)
        assert raised.value.fix.startswith("give a")


@pytest.mark.parametrize(("header", "key", "kind"), [one for one in KEYS if one[2] in (int, float)])
@pytest.mark.parametrize("wrong", ["-1", "-0.5", "inf", "nan"])
def test_numbers_below_zero_or_beyond_all_are_refused(tmp_path, header, key, kind, wrong):
    write_file(path := tmp_path / "card.toml", f"{header}{key} = {wrong}\n")
    with pytest.raises(UserError, match=f"{key} is "):
        read_about(path)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40))
def test_any_words_come_back(tmp_path_factory, words):
    path = tmp_path_factory.mktemp("about") / "card.toml"
    quoted = json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")
    body = f"summary = {quoted}\nlimits = [{quoted}]\n[[data]]\nname = {quoted}\nnote = {quoted}\n"
    path.write_bytes(body.encode())
    about = read_about(path)
    assert (about.summary, about.limits) == (words, (words,))
    assert about.data == (DataSource(name=words, note=words),)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[[data]]\nname = 'a'\nrole = 'Training'", "did you mean 'training'?"),
        ("[[data]]\nname = 'a'\n[[data]]\nrole = 'training'", "a [[data]] of the card has no name"),
        ("[energy]\nkg_co2e_per_kwh = 0.4", "energy has numbers, and no source of them"),
        ("languages = ['en', 'EN']", "languages has 'EN'"),
        ("repo = 'org/m/x'", "repo is 'org/m/x', no id of the Hub"),
        ("repo = 'org/'", "no id of the Hub"),
        ("energy = []", "energy is a section, not a value"),
        ("related = {title = 'x'}", "related is not a list"),
        ("[model]\nname = 'x'", "there is no key model"),
    ],
)
def test_more_mistakes(tmp_path, text, sentence):
    write_file(path := tmp_path / "card.toml", text)
    with pytest.raises(UserError) as raised:
        read_about(path)
    assert sentence in str(raised.value)
    assert raised.value.fix


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "card.toml").write_bytes(b'name = "\xff\xfe"')
    with pytest.raises(UserError, match="is not valid TOML"):
        read_about(tmp_path / "card.toml")
