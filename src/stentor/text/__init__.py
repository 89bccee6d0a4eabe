"""Stage 1: sources become clean documents, split into training and held-out text."""
