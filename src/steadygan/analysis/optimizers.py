"""A torch optimizer as a map: of parameters, their gradient, and what it remembers itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..core.players import Values
from .gan import shares

States = dict[str, dict[str, Any]]
"""What an optimizer remembers of each parameter, by the parameter's name: tensors and counts."""


class Moves:
    """One player's moves by a torch optimizer, differentiable in everything that they depend on.

    It is torch's own code, run over values that carry a graph, with the settings and from the state
    that the optimizer has now. slots: what is remembered of the shape of a parameter (Adam's moving
    averages, a momentum), which is part of the state of a step; counts and the like are held.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> None:
        self._kind = type(optimizer)
        groups = {p: group for group in optimizer.param_groups for p in group["params"]}
        self._settings = {key: self._plain(groups[p]) for key, p in parameters.items()}
        share = shares_of(optimizer)
        self._shares = {key: share[p] for key, p in parameters.items()}
        self.start: States = {
            key: self._begun(optimizer.state.get(p) or {}, p, groups[p])
            for key, p in parameters.items()
        }
        self.slots = [
            (key, name)
            for key, state in self.start.items()
            for name, value in state.items()
            if isinstance(value, Tensor) and value.shape == parameters[key].shape and value.ndim
        ]

    def __call__(
        self, values: Values, gradient: Values, state: States, rate: float | Tensor
    ) -> tuple[Values, States]:
        """Return the parameters and the state after one move down a gradient at this rate."""
        moved = {key: value.clone() for key, value in values.items()}
        groups = [
            {**self._settings[key], "params": [p], "lr": rate * self._shares[key]}
            for key, p in moved.items()
        ]
        optimizer = self._kind(groups, differentiable=True)  # type: ignore[call-arg]
        for key, p in moved.items():
            held = state[key].items()
            optimizer.state[p] = {
                name: value.clone() if isinstance(value, Tensor) else value for name, value in held
            }
            p.grad = gradient[key]
        optimizer.step()
        return moved, {key: dict(optimizer.state[p]) for key, p in moved.items()}

    @staticmethod
    def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
        ours = {"params", "lr", "foreach", "fused", "capturable", "differentiable"}
        return {name: value for name, value in group.items() if name not in ours}

    @staticmethod
    def _begun(state: Mapping[str, Any], p: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        begun = {name: value for name, value in state.items() if value is not None}
        for name, value in begun.items():
            if isinstance(value, Tensor):  # counts are floats in torch's own steps, not tensors
                begun[name] = value.detach() if value.ndim else value.detach().double()
        if group.get("momentum") and not begun:
            begun["momentum_buffer"] = torch.zeros_like(p)  # what the first step makes of nothing
        # Roots of a moving average of squares have no derivative at 0; far below eps they change
        # nothing.
        floor = (1e-3 * group.get("eps", 0.0)) ** 2
        for name in {"exp_avg_sq", "max_exp_avg_sq", "square_avg"} & begun.keys():
            begun[name] = begun[name].clamp(min=floor)
        return begun


def shares_of(optimizer: torch.optim.Optimizer) -> dict[Tensor, float]:
    """Return each parameter's learning rate, in units of that of the first group that moves."""
    by_group = zip(optimizer.param_groups, shares(optimizer), strict=True)
    return {p: share for group, share in by_group for p in group["params"]}


def not_a_map(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> str:
    """Return why an optimizer's moves cannot be differentiated as they stand; '' where they can."""
    name = type(optimizer).__name__
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    if any(p not in groups for p in parameters):
        return (
            f"the optimizer {name} holds other parameters than the network; it is not taken into"
            " account"
        )
    if "differentiable" not in optimizer.defaults or not type(optimizer).__module__.startswith(
        "torch.optim"
    ):
        return f"the optimizer {name} is not taken into account: plain gradient descent is assumed"
    if not isinstance(optimizer, torch.optim.SGD) and not all(
        optimizer.state.get(p) for p in parameters
    ):
        return (
            f"{name} has no state yet and is not taken into account: plain gradient descent is"
            " assumed"
        )
    return ""


def preconditioner(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]
) -> tuple[list[Tensor] | None, str]:
    """Return the diagonal that scales each parameter's gradient, and what is said of the optimizer.

    Adam: 1/(√(v/(1 - β₂ᵗ)) + ε); RMSProp: 1/(√v + ε); v is the moving average of squared gradients,
    (*shape) of the parameter. It is held where it is, for the rates of the field: true for moves
    that are slow against the averages' memory. A step has the averages in its state (``Moves``).
    None where there is no such diagonal.
    Reference: Kingma and Ba 2015; Tieleman and Hinton 2012.

    >>> p = nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> adam = torch.optim.Adam([p], betas=(0.0, 0.9))
    >>> p.grad = torch.tensor([3.0, 4.0]); adam.step()
    >>> [(1 / d).round(decimals=4) for d in preconditioner(adam, [p])[0]]
    [tensor([3., 4.])]
    """
    if why := not_a_map(optimizer, parameters):
        return None, why
    name = type(optimizer).__name__
    kept = sorted({key for p in parameters for key in optimizer.state.get(p) or {}} - {"step"})
    said = f"{name}, with {' and '.join(kept)} in the state of a step" if kept else name
    momentum = any(group.get("momentum") for group in optimizer.param_groups)
    if isinstance(optimizer, torch.optim.SGD):
        return None, (
            f"{said}; the field's rates leave its momentum out"
            if momentum
            else "plain gradient descent"
        )
    adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    if not adam and not isinstance(optimizer, torch.optim.RMSprop):
        return None, f"{said}; the field's rates are those of plain gradient descent"
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    diagonal = []
    for p in parameters:
        group, state = groups[p], optimizer.state[p]
        if adam:
            second = (state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]) / (
                1 - group["betas"][1] ** float(state["step"])
            )
        else:
            second = state["square_avg"]
            if group["centered"]:
                second = second - state["grad_avg"].square()
        diagonal.append(1 / (second.sqrt() + group["eps"]))
    return diagonal, (
        f"{said}; for the field's rates it counts as the fixed diagonal 1/(sqrt(v)+eps) that it is"
        " now"
    )
