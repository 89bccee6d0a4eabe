"""What a model is: sizes, tokenizer, golden strings."""

from __future__ import annotations

import dataclasses
import html
import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stentor.report.card.about import About
from stentor.report.card.identity import GOLDEN, architecture, known_limits, summary, tokenizer
from stentor.report.card.results import Results, read_results


def test_parameters_with_and_without_embeddings(bare):
    text = architecture(bare)
    embedding = 384 * 32
    assert "| Parameters | **32,928** |" in text
    assert f"| ... without embeddings | {32_928 - embedding:,} |" in text
    assert f"| ... of embeddings | {embedding:,} (37.3%; tied" in text
    assert "| Rows of the embedding | 384, 64 of them padding |" in text


def test_an_untied_head_is_counted(bare):
    config = dataclasses.replace(bare.subject.config, tie_word_embeddings=False, carrier="qwen3")
    untied = dataclasses.replace(bare, subject=dataclasses.replace(bare.subject, config=config))
    assert f"| ... of embeddings | {2 * 384 * 32:,} (" in architecture(untied)
    assert "two tables" in architecture(untied)
    assert "Qwen3ForCausalLM" in architecture(untied)


def test_golden_strings_and_their_ids(bare, tiny_tokenizer):
    text = tokenizer(bare)
    assert "| Algorithm | byte-level BPE |" in text
    for golden in GOLDEN:
        ids = ", ".join(map(str, tiny_tokenizer.encode(golden)))
        shown = json.dumps(golden, ensure_ascii=False).replace("|", "\\|")
        assert f"| `{shown}` | `{ids}` |" in text
    assert tiny_tokenizer.sha256 in text


def test_a_tokenmonster_vocabulary(bare, tiny_tokenmonster):
    monster = dataclasses.replace(bare, subject=dataclasses.replace(bare.subject, tokenizer=tiny_tokenmonster))
    assert "| Algorithm | TokenMonster |" in tokenizer(monster)
    assert f"| Begins one | id {tiny_tokenmonster.bos_token_id} |" in tokenizer(monster)


def test_bytes_per_token_come_from_evaluations(material, bare):
    assert "| Bytes per token: held-out text | 3.462 |" in tokenizer(material)
    assert "| Bytes per token: held-out text of the training | 3.000 |" in tokenizer(material)
    assert "Bytes per token" not in tokenizer(bare)


def test_the_summary(material, bare):
    text = summary(material)
    assert "| Bits per byte | 1.2500 on held-out text |" in text
    assert "| Trained on | 100,000 tokens |" in text
    assert re.search(r"\| Weights, SHA-256 \| `[0-9a-f]{64}` \|", text)
    assert "| Licence | not stated |" in summary(bare)
    assert "Bits per byte" not in summary(bare)
    about = About(summary="So *good*", license="other", license_name="mine", license_link="https://x.org", author="A")
    stated = summary(dataclasses.replace(bare, about=about))
    assert stated.startswith("So \\*good\\*\n")
    assert "| Licence | [mine](https://x.org) |" in stated


def test_limits_name_what_was_seen(bare):
    about = About(limits=("It likes cats.",))
    assert known_limits(dataclasses.replace(bare, about=about)).endswith("- It likes cats.")
    assert "**Context**: 32 tokens" in known_limits(bare)


def test_a_makers_limits_are_no_markup(bare):
    about = About(limits=("<script>x</script>", "# no *heading*", "two\n\nlines"))
    rendered = MarkdownIt().render(known_limits(dataclasses.replace(bare, about=about)))
    own = rendered.count("<li>") - MarkdownIt().render(known_limits(bare)).count("<li>")
    assert own == 3
    assert "<li>&lt;script&gt;x&lt;/script&gt;</li>" in rendered
    assert "<li># no *heading*</li>" in rendered
    assert "<li>two lines</li>" in rendered


@pytest.mark.parametrize("summary_of_maker", ["# Best model", "- small", "1. first", "> quoted", "---"])
def test_a_summary_is_a_paragraph(bare, summary_of_maker):
    text = summary(dataclasses.replace(bare, about=About(summary=summary_of_maker)))
    assert MarkdownIt().render(text).startswith(f"<p>{html.escape(summary_of_maker)}</p>\n")


def test_a_recipe_speaks_where_its_maker_does_not(material):
    run = material.subject.run
    settings = {**run.settings, "description": "Made *at home*."}
    subject = dataclasses.replace(material.subject, run=dataclasses.replace(run, settings=settings))
    assert summary(dataclasses.replace(material, subject=subject)).startswith("Made \\*at home\\*.\n")
    about = About(summary="Mine.")
    assert summary(dataclasses.replace(material, subject=subject, about=about)).startswith("Mine.\n")


def test_who_made_it_and_where_to_write(bare):
    about = About(author="A. | B.", publisher="P", contact="me_too@example.org", languages=("en", "pt-BR"))
    text = summary(dataclasses.replace(bare, about=about))
    assert "| By | A. \\| B., P |" in text
    assert "| Contact | me\\_too@example.org |" in text
    assert "| Languages | en, pt-BR |" in text


def test_the_best_evaluation_of_the_run_stands_for_one_of_the_model(material):
    alone = dataclasses.replace(material, results=Results())
    best = material.subject.run.best["bits_per_byte"]
    assert f"| Bits per byte | {best:.4f} on the held-out text of the training |" in summary(alone)


def test_texts_are_called_by_their_files(material, put):
    value = dict(material.results.of("evaluate")[0].value)
    folder = put(evaluate={**value, "text": "/home/me/edu-val.jsonl.zst"}, evaluate_wiki={**value, "text": "/x/y.txt"})
    text = summary(dataclasses.replace(material, results=read_results(folder)))
    assert "| Bits per byte | 1.2500 on wiki, 1.2500 on edu-val |" in text


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 64).map(lambda rows: 320 + rows))
def test_padding_is_what_the_tokenizer_does_not_use(bare, num_rows):
    config = dataclasses.replace(bare.subject.config, vocab_size=num_rows)
    text = architecture(dataclasses.replace(bare, subject=dataclasses.replace(bare.subject, config=config)))
    assert f"| Rows of the embedding | {num_rows:,}, {num_rows - 320} of them padding |" in text
