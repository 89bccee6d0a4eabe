"""stentor generate: the text alone on stdout, numbers on stderr, and what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

import stentor

PROMPT = "A cat saw"


@pytest.fixture(scope="module")
def model(world):
    return stentor.load(world.run)


def test_stdout_is_the_continuation_and_nothing_else(cli, world, model):
    outcome = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 12, "--seed", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == model.generate(PROMPT, max_new_tokens=12, seed=3) + "\n"


def test_settings_reach_the_model(cli, world, model):
    settings = {"temperature": 0.5, "top_k": 7, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.5}
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    outcome = cli("generate", PROMPT, "--model", world.run, *options, "--stop", ".", "--stop", " the")
    assert outcome.out == model.generate(PROMPT, stop=[".", " the"], **settings) + "\n"


def test_json_holds_the_text_and_what_it_cost(cli, world, model):
    value = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 9, "--temperature", 0, "--json").value
    assert value["text"] == model.generate(PROMPT, max_new_tokens=9, temperature=0)
    assert (value["num_prompt_tokens"], value["num_new_tokens"]) == (len(model.tokenizer.encode(PROMPT)), 9)
    assert value["finish_reason"] == "max_new_tokens"
    assert value["tokens_per_second"] > 0
    assert value["prefill_seconds"] > 0
    assert value["decode_seconds"] > 0


def test_stats_are_on_stderr(cli, world):
    outcome = cli("generate", PROMPT, "--model", world.run, "--max-new-tokens", 5, "--stats")
    assert outcome.err.startswith("5 tokens in ")
    assert "tokens/s" in outcome.err
    assert "ended by max_new_tokens" in outcome.err
    assert "tokens/s" not in outcome.out


@pytest.mark.parametrize(("data", "prompt"), [(b"A cat saw", "A cat saw"), (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd")])
def test_a_dash_reads_the_prompt_from_stdin_whatever_its_bytes(cli, world, model, monkeypatch, data, prompt):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
    outcome = cli("generate", "-", "--model", world.run, "--max-new-tokens", 6)
    assert outcome.out == model.generate(prompt, max_new_tokens=6) + "\n"


def test_an_empty_prompt_begins_a_document(cli, world, model):
    assert cli("generate", "", "--model", world.run).out == model.generate("") + "\n"


def test_a_prompt_that_is_no_text_is_read_as_the_tokenizer_reads_it(cli, world, model):
    assert cli("generate", "A \udcff cat", "--model", world.run).out == model.generate("A ? cat") + "\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-new-tokens", "0"], "max_new_tokens is 0"),
        (["--temperature", "-1"], "temperature is -1"),
        (["--temperature", "nan"], "temperature is nan"),
        (["--top-k", "-1"], "top_k is -1"),
        (["--top-p", "0"], "top_p is 0"),
        (["--min-p", "2"], "min_p is 2"),
        (["--repetition-penalty", "0"], "repetition_penalty is 0"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_settings_out_of_range_are_refused(cli, world, options, said, flag):
    cli("generate", PROMPT, "--model", world.run, *options, *flag).fails(3, said, "fix: ")


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(cli, world, model):
    prompt = "a cat saw the moon. " * 20
    num_tokens = len(model.tokenizer.encode(prompt))
    cli("generate", prompt, "--model", world.run).fails(
        3, f"the prompt has {num_tokens} tokens, the model's context holds 32"
    )


def test_a_model_that_is_none_is_refused(cli, tmp_path):
    cli("generate", PROMPT, "--model", tmp_path / "nowhere").fails(3, "there is no model")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_a_reader_that_leaves_early_gets_no_traceback(world):
    code = "from stentor.cli.main import main; main()"
    options = ["--model", str(world.run), "--max-new-tokens", "20", "--seed", "3"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "generate", PROMPT, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    assert len(os.read(process.stdout.fileno(), 1)) == 1
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert err == b""
