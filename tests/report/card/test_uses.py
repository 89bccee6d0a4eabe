"""Uses, what is no use, and whom a model may harm: by what is known of the model."""

from __future__ import annotations

import dataclasses

import pytest

from stentor.report.card.about import About, DataSource
from stentor.report.card.uses import ethics, out_of_scope, uses

WIKI = DataSource(name="Wiki_pedia", license="cc-by-sa-4.0")


def stated(material, **values):
    return dataclasses.replace(material, about=About(**values))


def test_uses_have_their_suitability(bare, material):
    text = uses(bare)
    for use in (
        "| Teaching | high | 2 layers of 32",
        "| Answering questions | not suitable |",
        "| Continuing text | moderate |",
    ):
        assert use in text
    assert "weights and sizes are on this card" in text
    assert "recipe, seed and course are on this card" in uses(material)
    assert "Languages other than" not in text
    assert "| Languages other than en, fr | not suitable |" in uses(stated(bare, languages=("en", "fr")))


@pytest.mark.parametrize(("data", "said"), [((), False), ((WIKI,), True)])
def test_share_alike_text_narrows_the_scope(bare, data, said):
    assert ("share-alike duties" in out_of_scope(stated(bare, data=data))) is said


def test_ethics_name_the_text(bare):
    assert "(Wiki\\_pedia)" in ethics(stated(bare, data=(WIKI,)))
    assert "English alone" not in ethics(bare)
    assert "English alone" in ethics(stated(bare, languages=("en",)))
    assert "English alone" not in ethics(stated(bare, languages=("en", "de")))
    assert "No safety training" in ethics(bare)


def test_of_many_texts_the_first_are_named(material):
    data = tuple(DataSource(name=f"text {number}") for number in range(9))
    said = ethics(dataclasses.replace(material, about=dataclasses.replace(material.about, data=data)))
    assert "(text 0, text 1, text 2, and 6 more)" in said
    assert "text 3" not in said
    said = ethics(dataclasses.replace(material, about=dataclasses.replace(material.about, data=data[:4])))
    assert "(text 0, text 1, text 2, text 3)" in said
