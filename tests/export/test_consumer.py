from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from stentor.errors import UserError
from stentor.export import consumer
from stentor.export.consumer import Question, ask

QUESTION = Question("some/path", ["caf\u00e9", "\U0001f389\r\n", ""], [3, 4, 5], [0, 2], 7)
CHILD = """
import sys
import numpy as np
from stentor.export.consumer import Answer, reply
def answer(question):
    {body}
reply(answer)
"""


@pytest.fixture
def child(monkeypatch):
    """Return a function that makes `ask` run a child of the given body instead of a module."""
    real_run = subprocess.run

    def use(body):
        def run(arguments, **options):
            assert arguments[:3] == [sys.executable, "-P", "-m"]
            return real_run([sys.executable, "-c", CHILD.format(body=body)], **options)

        monkeypatch.setattr(consumer.subprocess, "run", run)

    return use


def test_question_and_answer_cross_unchanged(child):
    child("return Answer({'question': question.strings + question.window}, np.arange(6, dtype='f4').reshape(2, 3))")
    answer = ask("child", QUESTION, consumer="it")
    assert answer.facts == {"question": [*QUESTION.strings, *QUESTION.window]}
    assert np.array_equal(answer.logits_PV, np.arange(6).reshape(2, 3))


def test_what_the_consumer_prints_does_not_spoil_the_answer(child):
    child("print('Loading!', flush=True); import os; os.write(1, b'native'); return Answer({}, np.zeros((0, 4)))")
    assert ask("child", QUESTION, consumer="it").logits_PV.shape == (0, 4)


def test_an_error_over_there_is_its_last_words_without_a_traceback(child):
    child("raise ValueError('no such layer')")
    with pytest.raises(UserError, match=r"it could not use the export \(exit status 1\): ValueError: no such layer"):
        ask("child", QUESTION, consumer="it")


def test_a_crash_over_there_is_an_error_here(child):
    child("import os; print('about to die', file=sys.stderr, flush=True); os.abort()")
    with pytest.raises(UserError, match=r"exit status -6.*about to die"):
        ask("child", QUESTION, consumer="it")


def test_a_hang_over_there_ends(child, monkeypatch):
    monkeypatch.setattr(consumer, "TIMEOUT_S", 0.5)
    child("import time; time.sleep(60)")
    with pytest.raises(UserError, match=r"it did not finish within 0\.5 s"):
        ask("child", QUESTION, consumer="it")


def test_the_child_is_offline(child):
    child("import os; return Answer({'offline': os.environ['HF_HUB_OFFLINE']}, np.zeros((1, 1)))")
    assert ask("child", QUESTION, consumer="it").facts == {"offline": "1"}


@pytest.mark.parametrize("data", [b"", b"GGUF" + b"\xff" * 200, b"not a model"])
def test_llama_cpp_refusing_a_file_is_an_error_with_its_reason(tmp_path, data):
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"llama\.cpp could not use the export .*failed to load model"):
        ask("stentor.export.in_llama_cpp", Question(str(path), ["a"], [1, 2], [0, 1], 7), consumer="llama.cpp")
