"""What a maker states, read from TOML: every key, and what is refused."""

from __future__ import annotations

import pytest

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
