"""Uses, what is no use, and whom a model may harm: by what is known of the model."""

from __future__ import annotations

import dataclasses

import pytest
from markdown_it import MarkdownIt

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


def test_names_of_texts_in_the_ethics_are_no_markup(bare):
    source = DataSource(name="<b>x</b> [y](z)\n\n# w", license="mit")
    rendered = MarkdownIt().render(ethics(stated(bare, data=(source,))))
    assert "(&lt;b&gt;x&lt;/b&gt; [y](z) # w)" in rendered
    assert "<h1>" not in rendered


@pytest.mark.parametrize("role", ["tokenizer", "evaluation"])
def test_texts_that_were_not_trained_on_bind_nobody(bare, role):
    about = (DataSource(name="W", license="gfdl", role=role),)
    assert "share-alike duties" not in out_of_scope(stated(bare, data=about))
    assert "(W)" not in ethics(stated(bare, data=about))


def test_numbers_of_the_uses_are_the_models(bare):
    config = dataclasses.replace(bare.subject.config, max_position_embeddings=2048, num_hidden_layers=12)
    text = uses(dataclasses.replace(bare, subject=dataclasses.replace(bare.subject, config=config)))
    assert "a context of 2,048 tokens, and coherence ends earlier" in text
    assert "| Teaching | high | 12 layers of 32: small enough to follow by hand |" in text
    assert "320 tokens, with golden strings to check against" in text
