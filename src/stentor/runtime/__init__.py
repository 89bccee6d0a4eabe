"""Stage 7: a model becomes text."""
