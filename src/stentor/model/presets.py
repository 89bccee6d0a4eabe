"""Published shapes by name.

Only `stentor2-12m` and `stentor-30m-v1` are certain: each is the one shape that gives the published parameter
count exactly (12,294,400 and 30,419,712). The cards of the others state a count but no shape; theirs are
reconstructed from it, and may differ from what was trained.
"""

from __future__ import annotations

from stentor.errors import UserError, nearest_name
from stentor.model.config import ModelConfig

PRESETS: dict[str, ModelConfig] = {
    "stentor2-12m": ModelConfig(),
    "stentor2-30m": ModelConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=10,
        num_attention_heads=8,
        num_key_value_heads=8,
    ),
    "stentor2-3m": ModelConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=2,
    ),
    "stentor-12m-v1": ModelConfig(
        vocab_size=32_768,
        max_position_embeddings=512,
        hidden_size=192,
        intermediate_size=576,
        num_attention_heads=3,
        num_key_value_heads=3,
    ),
    "stentor-30m-v1": ModelConfig(
        vocab_size=32_768, max_position_embeddings=512, intermediate_size=1024, num_hidden_layers=21
    ),
    "tiny": ModelConfig(
        vocab_size=2048,
        max_position_embeddings=256,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
    ),
}


def preset(name: str) -> ModelConfig:
    """Return a published shape.

    Raises:
        UserError: there is none of that name; the nearest is suggested.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise UserError(f"no model preset named {name!r}", fix=nearest_name(name, PRESETS)) from None
