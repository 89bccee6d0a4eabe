"""Samples, smaller forms and engines: the numbers of the files; nothing where there are none."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from markdown_it import MarkdownIt

from stentor.errors import UserError
from stentor.report.card.results import read_results
from stentor.report.card.speed import engines, quantization, samples


def test_samples_with_their_settings(material):
    text = samples(material)
    assert "**Prompt**: `A \\| B`" in text
    settings = "temperature 0.9, top_p 0.65, repetition_penalty 1.15, seed 3, dtype int8, device cpu"
    assert f"Settings: max_new_tokens 50, {settings}\n" in text
    assert "top_k" not in text
    assert "41 tokens, 100 tokens/s after the first; cut off at the limit" in text
    rendered = MarkdownIt().render(text)
    assert "&lt;b&gt;bold&lt;/b&gt;" in rendered
    assert rendered.count("<pre>") == 1


def test_a_text_of_one_token_has_no_rate(material, put):
    value = copy.deepcopy(dict(material.results.of("generate")[0].value))
    value["completions"][0] |= {"num_new_tokens": 1, "finish_reason": "eos"}
    text = samples(dataclasses.replace(material, results=read_results(put(generate=value))))
    assert "1 token; ended by the model itself" in text


def test_smaller_forms(material):
    text = quantization(material)
    assert "| float32 | 49.2 | 1.1000 | +0.0000 | - | transformers | 0 |" in text
    assert "| gguf q8\\_0 | 13.1 | 1.1007 | +0.0007 | 1,234 | llama.cpp | 0.012 |" in text
    assert "On 8,192 tokens (30,000 bytes) of builtin:docs" in text
    assert "Machine: A processor, cores: 2 of 2 usable, 0.1 busy" in text
    assert "- Not measured: nf4: needs the package 'bitsandbytes'" in text


def test_engines(material, put):
    text = engines(material)
    assert "| engine | threads | prompt of 16, tokens/s | tokens/s at 16 | memory, MB | start, s |" in text
    assert "| stentor: int8, cache int8 | 1 | 13,710 | 4,000 | - | 0.50 |" in text
    assert "- Not measured: transformers: is not installed" in text
    empty = read_results(put(bench={"results": [], "not_measured": {}, "machine": {}}))
    assert engines(dataclasses.replace(material, results=empty)) == ""


def test_nothing_measured_has_no_section(bare):
    assert (samples(bare), quantization(bare), engines(bare)) == ("", "", "")


@pytest.mark.parametrize(
    ("kind", "section"), [("generate", samples), ("quantization", quantization), ("bench", engines)]
)
def test_a_file_of_another_program_is_refused(material, put, kind, section):
    needed = {"generate": "settings", "quantization": "rows", "bench": "results"}[kind]
    results = read_results(put(**{kind: {needed: [{"x": 1}]}}))
    with pytest.raises(UserError, match=rf"{kind}\.json is not what"):
        section(dataclasses.replace(material, results=results))
