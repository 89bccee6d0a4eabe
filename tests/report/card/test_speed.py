"""Samples, smaller forms and engines: the numbers of the files; nothing where there are none."""

from __future__ import annotations

import copy
import dataclasses
import inspect

import pytest
from markdown_it import MarkdownIt

from stentor.cli.generate import generate
from stentor.errors import UserError
from stentor.report.card.results import read_results
from stentor.report.card.speed import _NO_EFFECT, engines, quantization, samples


def test_samples_with_their_settings(material):
    text = samples(material)
    assert "**Prompt**: `A | B`" in text
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


def sample_with(material, put, **settings):
    value = copy.deepcopy(dict(material.results.of("generate")[0].value))
    value["settings"] |= settings
    return samples(dataclasses.replace(material, results=read_results(put(generate=value))))


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("frequency_penalty", 0.5, "frequency_penalty 0.5"),
        ("logit_bias", {"17": -3.0}, "logit_bias {'17': -3.0}"),
        ("min_new_tokens", 4, "min_new_tokens 4"),
        ("ignore_eos", True, "ignore_eos True"),
        ("stop", ["END"], "stop ['END']"),
        ("cache_dtype", "int8", "cache_dtype int8"),
        ("top_k", 40, "top_k 40"),
        ("num_threads", 2, "num_threads 2"),
    ],
)
def test_whatever_a_text_depends_on_is_said(material, put, name, value, shown):
    """The card says that the same settings give the same text: so it must name all that are not idle."""
    (line,) = [line for line in sample_with(material, put, **{name: value}).splitlines() if line.startswith("Settings")]
    assert f", {shown}" in line.replace("\\", "")


def test_settings_without_effect_are_not_said(material, put):
    idle = {"frequency_penalty": 0.0, "logit_bias": {}, "min_new_tokens": 0, "ignore_eos": False, "stop": []}
    assert sample_with(material, put, **idle, cache_dtype="float32") == samples(material)


def test_the_settings_are_all_that_the_command_has(material):
    """An option that `stentor generate` gains must be shown here, or be known to change no text."""
    options = set(inspect.signature(generate).parameters)
    no_setting = {"prompt", "model", "n", "logprobs", "draft", "draft_method", "draft_tokens", "stats", "json_output"}
    assert options - no_setting == {name if name != "num_threads" else "threads" for name in _NO_EFFECT}


@pytest.mark.parametrize(
    ("num_tokens", "seconds", "said"),
    [(0, 0.0, "0 tokens; "), (2, 0.5, "2 tokens, 2 tokens/s after the first; "), (2, 0.0, "2 tokens; ")],
)
def test_rates_are_of_what_was_timed(material, put, num_tokens, seconds, said):
    value = copy.deepcopy(dict(material.results.of("generate")[0].value))
    value["completions"][0] |= {"num_new_tokens": num_tokens, "decode_seconds": seconds}
    assert said in samples(dataclasses.replace(material, results=read_results(put(generate=value))))


def test_a_prompt_reads_as_it_was_typed(material, put):
    value = {**material.results.of("generate")[0].value, "prompt": "a|b `c`\nd"}
    rendered = MarkdownIt().render(samples(dataclasses.replace(material, results=read_results(put(generate=value)))))
    assert "<code>a|b `c`\\nd</code>" in rendered
