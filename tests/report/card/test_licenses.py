"""What licences of texts mean for a model: share-alike text above all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.report.card.about import DataSource
from stentor.report.card.licenses import KNOWN, is_share_alike, license_notes

WIKI = DataSource(name="Wikipedia", license="cc-by-sa-3.0", num_bytes=300)
BOOKS = DataSource(name="Books", license="cc0-1.0", num_bytes=700)


@pytest.mark.parametrize(
    "name", ["cc-by-sa-4.0", "CC-BY-SA-3.0", "cc-by-nc-sa-4.0", "gfdl", "GPL-3.0", "agpl-3.0", "odbl"]
)
def test_share_alike(name):
    assert is_share_alike(name)


@pytest.mark.parametrize("name", ["", "cc-by-4.0", "mit", "apache-2.0", "cc0-1.0", "mpl-2.0"])
def test_not_share_alike(name):
    assert not is_share_alike(name)


@pytest.mark.parametrize(
    ("license_of_model", "said"),
    [
        ("apache-2.0", "released under apache-2.0, which is not share-alike"),
        ("cc-by-sa-4.0", "which is share-alike too"),
        ("", "No licence of the weights is stated"),
    ],
)
def test_share_alike_text_is_weighed(license_of_model, said):
    (note,) = license_notes([WIKI, BOOKS], license_of_model)
    assert "**Share-alike text** (30.0% of the counted bytes): Wikipedia, under cc-by-sa-3.0" in note
    assert said in note
    assert "(#memorisation-and-contamination)" in note


def test_no_share_is_said_where_nobody_counted():
    (note,) = license_notes([DataSource(name="w", license="gfdl")], "mit")
    assert note.startswith("**Share-alike text**: w")


def test_other_limits_are_named():
    limited = [DataSource(name="a", license="cc-by-nc-nd-4.0"), DataSource(name="b"), BOOKS]
    notes = license_notes(limited, "mit")
    assert [note.split(":")[0] for note in notes] == [
        "Licensed for non-commercial use alone",
        "Licensed for use without changes alone",
        "**Licence not known**",
    ]
    assert license_notes([BOOKS], "mit") == []


def test_the_hub_knows_the_usual_ones():
    assert {"apache-2.0", "mit", "cc-by-sa-4.0", "other"} <= KNOWN
    assert all(name == name.lower() for name in KNOWN)


NAME = "W*i*k [i](x) <b>\n\n## pedia"


@pytest.mark.parametrize("license_id", ["cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", ""])
def test_names_are_no_markup(license_id):
    (note,) = license_notes([DataSource(name=NAME, license=license_id)], "mit")
    rendered = MarkdownIt().render(note)
    assert "W*i*k [i](x) &lt;b&gt; ## pedia" in rendered
    assert (rendered.count("<p>"), rendered.count("<em>"), rendered.count("<h2>")) == (1, 0, 0)


@given(
    st.lists(st.tuples(st.sampled_from(["mit", "gfdl", "cc-by-sa-3.0"]), st.integers(0, 999)), min_size=1, max_size=6)
)
def test_the_share_is_that_of_the_counted_bytes(counted):
    sources = [DataSource(name=f"n{place}", license=name, num_bytes=size) for place, (name, size) in enumerate(counted)]
    part, whole = (sum(size for name, size in counted if is_share_alike(name) or all_of) for all_of in (False, True))
    notes = license_notes(sources, "mit")
    assert bool(notes) is any(is_share_alike(name) for name, _ in counted)
    if notes:
        assert (f"({part / whole:.1%} of the counted bytes)" if part else "**Share-alike text**: ") in notes[0]
