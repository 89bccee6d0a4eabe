"""Speculative decoding: a cheap draft guesses some tokens, and the target judges them all in one pass.

The text is distributed as it would be without a draft; at temperature 0 it is the very same.
"""
