"""In which numbers a network may compute, and where. This file imports nothing, so that options can name them."""

DTYPES = ("float32", "int8", "int4")
"""Of weights on a CPU."""
GPU_DTYPES = ("float32", "float16", "bfloat16")
"""Of all that a GPU computes in; keys and values with it."""
CACHE_DTYPES = ("float32", "int8")
"""Of keys and values on a CPU."""
DEFAULT_DTYPE = "int8"
"""Of weights that make text on a CPU: a multiple of float32's speed, for a loss that no reader of samples sees.

What is measured is measured in float32, the weights as they are.
"""
DEVICES = ("cpu", "cuda", "mps", "auto")
"""Where: on the CPU's own engine; in torch, on a GPU; there if there is one."""
