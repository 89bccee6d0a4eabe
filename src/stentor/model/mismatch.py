"""Why a checkpoint's tensors are not those that its config.json demands: the likely reason, in words."""

from __future__ import annotations

from collections.abc import Collection, Sequence

_MARKS = {
    ".lora_": "it is a LoRA adapter, not a whole model: merge it into its base model first",
    ".qweight": "its weights are packed by a quantizer: fetch the model it was made from",
    ".SCB": "its weights were rounded by bitsandbytes: save the model before it is quantized",
    ".quant_state": "its weights were rounded by bitsandbytes: save the model before it is quantized",
    ".bias": "it is of a network with biases, which ours has not",
    "transformer.h.": "it is of another architecture (GPT-2's names)",
    "optimizer.": "it is a state of training: save the model alone",
}
"""What a part of an unexpected name tells."""
_HEAD, _LAYERS = "lm_head.weight", "model.layers."


def likely_reason(missing: Sequence[str], unexpected: Sequence[str], *, expected: Collection[str]) -> str:
    """Return what probably happened to a checkpoint, in words that end its message; nothing where nothing is known.

    Args:
        missing: names that are demanded and not there.
        unexpected: names that are there and not demanded.
        expected: all that are demanded.
    """
    for mark, reason in _MARKS.items():
        if any(mark in name for name in unexpected):
            return reason
    if prefix := _common_prefix(unexpected, expected):
        return f"a wrapper left {prefix!r} before the names: save the module inside it"
    if any(f"model.{name}" in expected for name in unexpected):
        return "'model.' is missing before the names: save the whole model, not the network without its head"
    if missing == [_HEAD] and not unexpected:
        return "a tied head is stored once, as the embedding: set tie_word_embeddings to true if this one is tied"
    if unexpected and all(name.startswith(_LAYERS) for name in unexpected) and not missing:
        return "the sizes are of fewer layers, or of another kind of layer"
    return "the file is of another model, or was cut short" if missing else ""


def _common_prefix(unexpected: Sequence[str], expected: Collection[str]) -> str:
    """Return what stands before an expected name in every unexpected one."""
    for name in expected:
        if unexpected and unexpected[0].endswith(f".{name}"):
            prefix = unexpected[0].removesuffix(name)
            return prefix if all(other.startswith(prefix) for other in unexpected) else ""
    return ""
