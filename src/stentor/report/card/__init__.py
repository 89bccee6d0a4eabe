"""The model card: a README.md for the Hugging Face Hub, every number of which comes from a file."""
