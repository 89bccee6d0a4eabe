"""Triton kernels for NVIDIA GPUs, one operation a file; `ops` decides when they run and holds what they must equal.

All of them are bound by memory: each reads its inputs once, computes in float32 and writes its outputs once.
Shapes: N tokens of a batch, D hidden, F feed-forward, V vocabulary, H head dim; P programs of a launch.
"""
