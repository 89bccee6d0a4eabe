"""A network in torch that says how well it predicts: what `measure` asks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from stentor.model.llama import Llama
from stentor.model.loss import token_nats


class TorchScorer:
    """Scores windows with a network on any device, all at once; a `measure.Scorer`."""

    def __init__(self, model: Llama) -> None:
        self.config = model.config
        self._model = model

    def window_nats(self, inputs_BT: NDArray[np.integer], targets_BT: NDArray[np.integer]) -> NDArray[np.floating]:
        """Return -ln p of targets; see `measure.Scorer`."""
        device = self._model.embedding_VD.device
        with torch.inference_mode():
            nats_BT = token_nats(
                self._model, torch.from_numpy(inputs_BT).to(device), torch.from_numpy(targets_BT).to(device)
            )
        return nats_BT.double().cpu().numpy()
