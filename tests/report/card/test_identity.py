"""What a model is: sizes, tokenizer, golden strings."""

from __future__ import annotations

import dataclasses
import json
import re

from stentor.report.card.about import About
from stentor.report.card.identity import GOLDEN, architecture, known_limits, summary, tokenizer


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
