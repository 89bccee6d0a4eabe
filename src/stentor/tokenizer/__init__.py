"""Stage 2: documents become a vocabulary; text becomes ids and back."""

from stentor.tokenizer.base import Tokenizer

__all__ = ["Tokenizer"]
