"""Results in every state of damage, and with any text in them: a sentence that names the file, never a traceback."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.errors import UserError
from stentor.report.card.about import About, DataSource, Work
from stentor.report.card.results import COMMANDS, Found, Results
from stentor.report.card.subject import Material
from stentor.report.card.write import render_card

pytestmark = pytest.mark.usefixtures("few_resamples")
WRONG = (None, "text", -1, [], {}, [1])
NASTY = st.text(st.sampled_from("a|`*_<>[]()#\\\n\r\t\x00\u2028\ud800 -~"), min_size=1, max_size=12)


def rendered_with(material: Material, kind: str, value: Any) -> str:
    """Render a card with one result in the place of the good one."""
    kept = [found for found in material.results.found if found.kind != kind]
    (good,) = material.results.of(kind)
    results = Results((*kept, Found(kind, "", good.path, value)))
    return render_card(dataclasses.replace(material, results=results))[0]


@pytest.mark.parametrize("kind", COMMANDS)
def test_damaged_results_are_refused_by_name(material, kind, places):
    """Without any one of its parts, or with a wrong one there, a result is refused, or the part was not needed."""
    material = dataclasses.replace(material, subject=dataclasses.replace(material.subject, run=None))
    (good,) = material.results.of(kind)
    refusals = []
    for place, path in enumerate(list(places.of(good.value))):
        for new in ["del", WRONG[place % len(WRONG)]][: 2 - place % 2]:
            try:
                rendered_with(material, kind, places.changed(good.value, path, new))
            except UserError as error:
                refusals.append(str(error))
    assert len(refusals) >= 3
    assert all(f"{kind}.json" in refusal or "the metric" in refusal for refusal in refusals)


@pytest.mark.parametrize("kind", COMMANDS)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=NASTY)
def test_any_text_leaves_the_card_whole(material, places, kind, text):
    """Whatever stands in a result's strings, every section and table of the card is still there."""
    material = dataclasses.replace(material, subject=dataclasses.replace(material.subject, run=None))
    (good,) = material.results.of(kind)
    before, value = rendered_with(material, kind, good.value), good.value
    for path in places.of(value):
        inside: Any = value
        for key in path:
            inside = inside[key]
        if isinstance(inside, str) and path[-1] not in ("task", "start", "finish_reason", "model", "data", "text"):
            value = places.changed(value, path, text)
    assert shape(rendered_with(material, kind, value)) == shape(before)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=NASTY.filter(str.strip))
def test_any_word_of_its_maker_leaves_the_card_whole(bare, text):
    def about(text: str) -> About:
        source = DataSource(name=text, license=f"cc-by-sa {text}", note=text)
        return About(
            name=text, summary=text, author=text, publisher=text, contact=text, data=(source,),
            related=(Work(title=text, url="https://example.org", relevance=text),),
        )  # fmt: skip

    card, _ = render_card(dataclasses.replace(bare, about=about(text)))
    plain_card, _ = render_card(dataclasses.replace(bare, about=about("word")))
    assert shape(card)["table"] == shape(plain_card)["table"]
    assert shape(card)["h2"] == shape(plain_card)["h2"]


def shape(card: str) -> dict[str, int]:
    """Count what a card is made of, once it is rendered."""
    html = MarkdownIt().enable("table").render(card.split("\n---\n", 1)[1])
    return {tag: html.count(f"<{tag}") for tag in ("h1", "h2", "h3", "table", "tr", "td", "pre", "b>", "script")}


def test_what_is_damaged_here_is_what_commands_print(material, places):
    for found in material.results.found:
        assert json.loads(found.path.read_bytes()) == found.value
        assert len(list(places.of(found.value))) >= 8
