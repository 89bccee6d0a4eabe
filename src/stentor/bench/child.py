"""Child process: load a model in one engine, say when its first token is there, and how long all else takes.

The request comes as JSON on standard input. Two lines of JSON go back: `{}` with the first token, then the result.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TextIO

from stentor.bench.memory import peak_bytes
from stentor.bench.setting import Request

COLD_PROMPT_TOKENS = 16


def answer(request: Request, out: TextIO) -> None:
    """Write both lines."""
    bare_bytes = peak_bytes()
    engine = importlib.import_module(f"stentor.bench.in_{request.setting.engine}").open_engine(request)
    engine.prefill(request.token_ids[: min(COLD_PROMPT_TOKENS, *request.work.prompt_lengths)])
    print("{}", file=out, flush=True)
    from stentor.bench.engine import timings

    prefill, decode = timings(engine, request.work, request.token_ids)
    most_bytes = peak_bytes()
    result = {
        "prefill_seconds": prefill,
        "decode_seconds": decode,
        "peak_bytes": None if bare_bytes is None or most_bytes is None else most_bytes - bare_bytes,
        "version": engine.version,
    }
    print(json.dumps(result), file=out, flush=True)


def main() -> None:
    """Answer on standard output; whatever engines print there goes to standard error."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = Request.from_dict(json.loads(sys.stdin.read()))
    try:
        answer(request, out)
    except Exception as error:  # whatever a foreign program raises is its last word, not a bug of ours
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)  # no engine's clean-up is waited for


if __name__ == "__main__":
    main()
