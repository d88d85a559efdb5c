"""What an adaptive optimizer does to a gradient, as the diagonal that it is for a moment."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def preconditioner(
    optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]
) -> tuple[list[Tensor] | None, str]:
    """Return the diagonal that scales each parameter's gradient, and what is said of it; None where
    there is none to take into account.

    Adam: 1/(√(v/(1 - β₂ᵗ)) + ε); RMSProp: 1/(√v + ε); v is the moving average of squared gradients,
    (*shape) of the parameter. It is held
    where it is, and momentum is left out: true for moves that are slow against the average's
    memory.
    Reference: Kingma and Ba 2015; Tieleman and Hinton 2012.

    >>> p = nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> adam = torch.optim.Adam([p], betas=(0.0, 0.9))
    >>> p.grad = torch.tensor([3.0, 4.0]); adam.step()
    >>> [(1 / d).round(decimals=4) for d in preconditioner(adam, [p])[0]]
    [tensor([3., 4.])]
    """
    name = type(optimizer).__name__
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    states = [optimizer.state.get(p) or {} for p in parameters]
    left_out = "".join(
        f"; its {what} is not taken into account"
        for what, key in (("momentum", "momentum"), ("weight decay", "weight_decay"))
        if any(group.get(key) for group in optimizer.param_groups)
    )
    if isinstance(optimizer, torch.optim.SGD):
        return None, "plain gradient descent" + left_out
    if any(p not in groups for p in parameters):
        return (
            None,
            f"the optimizer {name} holds other parameters than the network; it is not taken into"
            " account",
        )
    adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
    if not adam and not isinstance(optimizer, torch.optim.RMSprop):
        return (
            None,
            f"the optimizer {name} is not taken into account: plain gradient descent is assumed",
        )
    key = "exp_avg_sq" if adam else "square_avg"
    if not all(key in state for state in states):
        return (
            None,
            f"{name} has no state yet and is not taken into account: plain gradient descent is"
            " assumed",
        )
    diagonal = []
    for p, state in zip(parameters, states, strict=True):
        group, second = groups[p], state[key]
        if adam:
            second = (state["max_exp_avg_sq"] if group["amsgrad"] else second) / (
                1 - group["betas"][1] ** float(state["step"])
            )
        elif group["centered"]:
            second = second - state["grad_avg"].square()
        diagonal.append(1 / (second.sqrt() + group["eps"]))
    if adam and any(group["betas"][0] for group in optimizer.param_groups):
        left_out = "; its momentum (beta1) is not taken into account" + left_out
    return (
        diagonal,
        f"{name} counts as the fixed diagonal 1/(sqrt(v)+eps) of its present state" + left_out,
    )
