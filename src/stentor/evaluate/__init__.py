"""Stage 7: a model becomes numbers. Called, `stentor.evaluate(model, texts)` is `stentor.evaluate.text.evaluate`."""

from stentor.callable_stage import make_callable

make_callable(__name__, "stentor.evaluate.text", "evaluate")
