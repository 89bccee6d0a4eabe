"""Stage 8a: a model and a text become an adapter, and the model with it merged in."""
