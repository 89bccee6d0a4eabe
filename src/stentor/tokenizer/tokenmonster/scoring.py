"""What a split of the text ahead is worth: the scores of the original, to the bit.

A packed record, as `VocabArrays.splits` holds it: alternative 2 + 1 | alternative 1 + 1 | words | flag | length.
"""

from __future__ import annotations

from stentor.compiled import Int, inlined


@inlined
def plain_score(head: Int, tail: Int, words: Int, follower: Int, total: Int) -> Int:
    """Return what two tokens are worth that stand one behind the other.

    Args:
        head: packed record of the first.
        tail: packed record of the second.
        words: that the first begins.
        follower: the kind of token that mostly begins with the byte behind both.
        total: their length in bytes of text.
    """
    score = _score(head, tail, words, follower, total)
    return score + ((tail >> 8) & 1) - 103 * ((head >> 6) & 1 & (tail >> 7))


@inlined
def deleting_score(head: Int, tail: Int, words: Int, follower: Int, total: Int) -> Int:
    """Return the same for two tokens and, between them, one that deletes the first space of the second."""
    return _score(head, tail, words, follower, total) - 103 * ((head >> 6) & 1) - 1


@inlined
def _score(head: Int, tail: Int, words1: Int, follower: Int, total: Int) -> Int:
    flag1, flag2, words2 = (head >> 6) & 255, (tail >> 6) & 255, (tail >> 14) & 63
    score = total + (flag1 >> 7) + (flag2 >> 7) + max(0, words1 - 1) + max(0, words2 - 1) + ((follower >> 2) & 1)
    score += 100 * (words1 + words2 + (follower >> 3)) - 100 * ((flag1 >> 3) & 1 & (flag2 >> 4))
    return score - 3 * (flag2 & 1 & follower)


@inlined
def penalty(total: Int, length: Int) -> Int:
    """Return what a shorter first token loses where both together cover no more than the whole token did."""
    if total > length:
        return 0
    return -10_000 if total == length else -100


@inlined
def may_delete_before(tail: Int, follower: Int) -> bool:
    """Whether the second token is the beginning of a word that might be spelt with its space, deleted again."""
    return follower == 1 and (tail >> 7) & 1 == 1 and (tail >> 14) & 63 == 0
