"""Stage 5: shards and a recipe become a run folder. Called, `stentor.train(recipe)` is `stentor.run.train`."""

from stentor.callable_stage import make_callable

make_callable(__name__, "stentor.run", "train")
