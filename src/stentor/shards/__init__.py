"""Stage 3: documents and a tokenizer become packed ids on disk."""
