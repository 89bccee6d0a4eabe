"""Ask a foreign program, in a process of its own, what it makes of an export.

A crash of its native code, its warnings and its global state stay over there. The question goes as JSON to the
child's standard input; the answer comes back as one line of JSON and an array of float32 behind it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stentor.errors import MissingDependencyError, UserError

TIMEOUT_S = 900
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_ERROR_LINES = 6


@dataclass(frozen=True, slots=True)
class Question:
    """What to do with an export.

    Attributes:
        path: the file or folder.
        strings: texts to turn into token ids.
        window: token ids of one sequence, shorter than the context.
        positions: indices into `window`, ascending; the next-token distribution after each is wanted.
        plain_token: a token whose bytes are whole UTF-8 and that does not end a text.
    """

    path: str
    strings: list[str]
    window: list[int]
    positions: list[int]
    plain_token: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the consumer said: facts by name, and logits or log-probabilities [positions, vocabulary]."""

    facts: dict[str, Any]
    logits_PV: NDArray[np.float32]


def is_installed(package: str, *, unverified: bool) -> bool:
    """Tell whether a consumer is there to prove an export.

    Raises:
        MissingDependencyError: it is not, and the user did not allow an unproven export.
    """
    if importlib.util.find_spec(package) is not None:
        return True
    if unverified:
        return False
    raise MissingDependencyError(
        f"an export is kept only once it is proven in its consumer, and the package {package!r} is not installed",
        fix="pip install 'stentor[export]', or pass --unverified",
    )


def ask(program: str, question: Question, *, consumer: str) -> Answer:
    """Run a module of ours that loads the export in its consumer, and return what it said.

    Args:
        program: the module, which calls `reply`.
        question: what to do.
        consumer: the consumer's name, for messages.

    Raises:
        UserError: the consumer refused the export, crashed or hung; its last words are in the message.
    """
    try:
        # -P: a file in the user's folder must not stand in for a package of the consumer.
        result = subprocess.run(
            [sys.executable, "-P", "-m", program],
            input=json.dumps(asdict(question)).encode(),
            capture_output=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **_OFFLINE},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{consumer} did not finish within {TIMEOUT_S} s", fix="nothing was kept; try again") from None
    if result.returncode != 0:
        last_words = result.stderr.decode(errors="replace").strip().splitlines()[-_ERROR_LINES:]
        raise UserError(
            f"{consumer} could not use the export (exit status {result.returncode}): {' | '.join(last_words)}",
            fix="nothing was kept; the message above says what it refused",
        )
    line, _, data = result.stdout.partition(b"\n")
    facts = json.loads(line)
    return Answer(facts, np.frombuffer(data, dtype="<f4").reshape(facts.pop("shape")))


def reply(answer: Callable[[Question], Answer]) -> None:
    """Be the child process: read the question, answer it on standard output.

    Whatever the consumer prints on standard output is sent to standard error, so that the answer stays clean.
    """
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    question = Question(**json.loads(sys.stdin.buffer.read()))
    try:
        said = answer(question)
    except Exception as error:  # whatever a foreign program raises is its last word, not a bug of ours
        sys.exit(f"{type(error).__name__}: {error}")
    header = json.dumps({**said.facts, "shape": said.logits_PV.shape})
    out.write(header.encode() + b"\n" + np.ascontiguousarray(said.logits_PV, dtype="<f4").tobytes())
    out.flush()
