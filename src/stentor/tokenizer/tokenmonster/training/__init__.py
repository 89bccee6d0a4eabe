"""Learn a TokenMonster vocabulary: which substrings may be tokens, and which few of them are worth being tokens."""
