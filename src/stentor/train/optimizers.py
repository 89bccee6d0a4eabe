"""The optimizers of a run as one: AdamW for everything, or Muon for the layers' matrices and AdamW for the rest.

Nothing here waits for the device: rates are tensors on it, and so is whether an update applies at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stentor.config import TrainConfig
from stentor.model.init import is_norm
from stentor.model.llama import Llama
from stentor.train.muon import Muon, matrix_places
from stentor.train.schedule import Rates

_ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizers:
    """All that changes weights.

    Args:
        model: those of its parameters that are trained are updated in place.
        config: rates, decays and which optimizer.

    References: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", arXiv 1711.05101.
    """

    def __init__(self, model: Llama, config: TrainConfig) -> None:
        self._config = config
        self.parameters = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        device = model.embedding_VD.device
        self._rates = {name: torch.zeros((), device=device) for name in Rates._fields}
        self.count = torch.zeros((), device=device)
        self._muon = self._make_muon(model) if config.optimizer == "muon" else None
        self._adamw = self._make_adamw(model)

    def set_rates(self, rates: Rates) -> None:
        """Use these for the next update."""
        for name, value in rates._asdict().items():
            self._rates[name].fill_(value)

    def step(self, *, grad_scale: Tensor, applies: Tensor) -> None:
        """Update all parameters by their `grad`.

        Args:
            grad_scale: gradients are divided by it.
            applies: where false, weights, moments and counts stay as they are.
        """
        self.count.add_(applies.float())
        for group in self._adamw.param_groups:
            torch.mul(self._rates["factor"], group["peak_lr"], out=group["lr"])
        self._adamw.grad_scale = grad_scale  # type: ignore[attr-defined] # torch's own way to fuse these in
        self._adamw.found_inf = (~applies).float()  # type: ignore[attr-defined]
        self._adamw.step()
        if self._muon is not None:
            factor = self._rates["factor"]
            self._update_muon(
                {name: grad for name in self._muon.momenta if (grad := self.parameters[name].grad) is not None},
                lr=factor * self._config.matrix_lr,
                momentum=self._rates["momentum"],
                weight_decay=factor * self._config.weight_decay,
                grad_scale=grad_scale,
                applies=applies,
            )

    def state(self) -> dict[str, Tensor]:
        """Return all that updates depend on beside weights and step, by name; a fresh optimizer's is all zeros."""
        tensors = {"count": self.count}
        for name, parameter in self._adamw_parameters().items():
            own = self._adamw.state[parameter]
            tensors |= {f"{moment}.{name}": own.get(moment, torch.zeros_like(parameter)) for moment in _ADAM_MOMENTS}
        if self._muon is not None:
            tensors |= {f"momentum.{name}": tensor for name, tensor in self._muon.momenta.items()}
            tensors |= {f"second_moment.{name}": tensor for name, tensor in self._muon.second_moments.items()}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a state of the same names and shapes."""
        self.count.copy_(tensors["count"])
        parameters = self._adamw_parameters()
        state = {
            index: {
                "step": self.count.clone(),
                **{moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _ADAM_MOMENTS},
            }
            for index, (name, parameter) in enumerate(parameters.items())
        }
        self._adamw.load_state_dict({"state": state, "param_groups": self._adamw.state_dict()["param_groups"]})
        if self._muon is not None:
            for name in self._muon.momenta:
                self._muon.momenta[name].copy_(tensors[f"momentum.{name}"])
                self._muon.second_moments[name].copy_(tensors[f"second_moment.{name}"])

    def _adamw_parameters(self) -> dict[str, Tensor]:
        """Return the parameters that AdamW updates, in its own order."""
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        return {names[id(p)]: p for group in self._adamw.param_groups for p in group["params"]}

    def _make_muon(self, model: Llama) -> Muon:
        device, dtype = model.embedding_VD.device, model.numerics.compute_dtype
        muon = Muon(model.config, self.parameters, dtype=dtype if dtype == torch.bfloat16 else torch.float32)
        self._update_muon = torch.compile(muon.update, dynamic=False) if device.type == "cuda" else muon.update
        return muon

    def _make_adamw(self, model: Llama) -> torch.optim.AdamW:
        config, device = self._config, model.embedding_VD.device
        by_muon = {place.name for place in matrix_places(model.config)} if self._muon else set()
        tables = {"embedding_VD", "head_VD"} & self.parameters.keys()
        groups: list[dict[str, Any]] = []
        for names, lr, weight_decay in (
            (tables, config.embedding_lr or config.lr, config.embedding_weight_decay),
            ({name for name in self.parameters if is_norm(name)}, config.lr, 0.0),
            (
                {name for name in self.parameters if not is_norm(name)} - tables - by_muon,
                config.lr,
                config.weight_decay,
            ),
        ):
            chosen = [self.parameters[name] for name in self.parameters if name in names]
            rate = {"peak_lr": lr, "lr": torch.zeros((), device=device), "weight_decay": weight_decay}
            groups += [{"params": chosen, **rate}] if chosen else []
        return torch.optim.AdamW(
            groups,
            lr=torch.zeros((), device=device),
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,
            capturable=device.type == "cuda",
        )
