"""Stage 6: a model becomes text."""
