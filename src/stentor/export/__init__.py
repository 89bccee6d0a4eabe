"""Stage 8: a model becomes shipped formats, each proven in its real consumer before it is kept."""
