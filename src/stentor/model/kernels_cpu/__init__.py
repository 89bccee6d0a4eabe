"""Compiled loops for the CPU, one operation a file, and what they share; `ops` decides when they run.

What is computed between matrix products is bound by memory: each loop reads its inputs once, computes in float32 and
writes its outputs once. numba compiles them on their first use and keeps them on the disk; no compiler need be
installed. Rows are taken in blocks whose size does not depend on the number of threads, and what is summed over rows
is summed block by block: a result has the same bits whoever computed it.

Numbers in bfloat16 reach the loops as their 16 bits. Shapes: N tokens of a batch, D hidden, F feed-forward, V
vocabulary, H head dim, E merged heads; P pairs of a sequence and a head.
"""
