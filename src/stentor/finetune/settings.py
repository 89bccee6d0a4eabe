"""How a model is fine-tuned. Importing this file never imports torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from stentor.errors import UserError, nearest_name

QUANTIZATIONS = ("4bit", "8bit")
MAX_GRAD_NORM = 1.0
WARMUP_SHARE = 0.05
"""Of the steps; adapters begin at nothing, so little is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """The settings of a low-rank adapter and of its training.

    Attributes:
        rank: of the two matrices that are learned beside each matrix of the layers.
        alpha: their product is multiplied by alpha / rank; 0 takes twice the rank.
        epochs: how often the text is read; need not be whole.
        lr: AdamW's peak learning rate, after a short warmup; from there it falls to 0 along a cosine.
        batch: windows of the context length per update.
        validation: which documents are held out to be measured on: `take:N`, `hash:FRACTION` or `file:SPEC`.
        seed: of the adapter's first values and of the order of the windows.
        quantize: `4bit` or `8bit`: what the frozen weights are rounded to while the adapter learns (QLoRA).

    References: Hu et al. 2021, "LoRA", arXiv 2106.09685; Dettmers et al. 2023, "QLoRA", arXiv 2305.14314.
    """

    rank: int = 16
    alpha: float = 0.0
    epochs: float = 1.0
    lr: float = 2e-3
    batch: int = 8
    validation: str = "hash:0.1"
    seed: int = 0
    quantize: str | None = None

    def __post_init__(self) -> None:
        for name in ("rank", "epochs", "lr", "batch"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise UserError(f"--{name} is {value}", fix="use a number above zero")
        if not (self.alpha >= 0 and math.isfinite(self.alpha)):
            raise UserError(f"--alpha is {self.alpha}", fix="use a number above zero, or 0 for twice the rank")
        if not 0 <= self.seed < 1 << 63:
            raise UserError(f"--seed is {self.seed}", fix="use a whole number from 0, below 2**63")
        if self.quantize is not None and self.quantize not in QUANTIZATIONS:
            raise UserError(f"--quantize is {self.quantize!r}", fix=nearest_name(self.quantize, QUANTIZATIONS))

    @property
    def scaled_alpha(self) -> float:
        """Alpha as the adapter has it."""
        return self.alpha or 2.0 * self.rank

    def num_steps(self, num_windows: int) -> int:
        """Return the updates that so many windows of text make."""
        return max(1, math.ceil(self.epochs * num_windows / self.batch))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, alpha as the adapter has it."""
        return {**asdict(self), "alpha": self.scaled_alpha}
