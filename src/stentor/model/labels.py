"""What stands where nothing is to be predicted."""

IGNORED_LABEL = -100
"""A target that has no loss, as torch and transformers have it."""
