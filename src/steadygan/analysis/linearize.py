"""Jacobians of a game's vector field and of one step of any dynamics, by automatic differentiation of the very objects that train."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor, nn

from ..core.context import Context, Draws
from ..core.dynamics import Dynamics, Optimistic
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, FunctionalPlayers, Name, Values
from ..core.registry import build

Map = Callable[[Tensor], Tensor]
"""A differentiable map of flat vectors (n,) -> (n,)."""


class System:
    """A game at one fixed batch as a flat dynamical system: the state is (generator's parameters, critic's parameters).

    The networks are copied, so their buffers are held and the caller's stay as they are. Every evaluation sees the same batch and, from
    ``draws()``, the same noise. dynamics: an object or a spec. lr: one learning rate, or one for each player. An optimistic step also
    carries the previous gradients, so its state is twice as long.

    Raises SteadyganError where the linearisation does not exist (WGAN-GP and DRAGAN at an equilibrium, with the reference) and where two
    evaluations differ (dropout, spectral normalisation that advances), with what to do.

    Reference: Mescheder et al. 2018, section 2.
    """

    def __init__(
        self,
        game: Game,
        dynamics: Dynamics | str,
        generator: nn.Module,
        critic: nn.Module,
        batch: Batch,
        *,
        lr: float | Mapping[Name, float] = 0.1,
        progress: float | None = None,
        draws: Callable[[], torch.Generator | Draws] | None = None,
        memory: Mapping[str, Tensor] | None = None,
    ) -> None:
        for regularizer in game.regularizers:
            if regularizer.not_smooth:  # type: ignore[union-attr]
                raise SteadyganError(regularizer.not_smooth)  # type: ignore[union-attr]
        self.game, self.dynamics, self.batch, self.lr = game, build("dynamics", dynamics), batch, lr
        self.generator, self.critic = copy.deepcopy(generator), copy.deepcopy(critic)
        self._draws = draws or (lambda: torch.Generator(batch.real.device).manual_seed(0))
        self._context = {"progress": progress, "memory": memory or {}}
        modules: dict[Name, nn.Module] = {"generator": self.generator, "critic": self.critic}
        self._shapes = [(name, key, p.shape) for name in PLAYERS for key, p in modules[name].named_parameters() if p.requires_grad]
        self._modules = modules
        self.split = sum(shape.numel() for name, _, shape in self._shapes if name == "generator")
        self.size = sum(shape.numel() for _, _, shape in self._shapes)
        self._guard()

    @property
    def remembers(self) -> bool:
        """Whether a step's state holds the previous gradients."""
        return isinstance(self.dynamics, Optimistic)

    def point(self) -> Tensor:
        """Return the networks' parameters as a flat state (n,)."""
        parameters = {name: dict(self._modules[name].named_parameters()) for name in PLAYERS}
        return torch.cat([parameters[name][key].detach().reshape(-1) for name, key, _ in self._shapes])

    def field(self, state: Tensor) -> Tensor:
        """Return v(w) of the field that the dynamics follows, (n,); consensus and unrolling modify the game's own."""
        players = self._players(state)
        descent = self.dynamics.field(players, self.batch)
        return -self._flat(descent)

    def step(self, state: Tensor) -> Tensor:
        """Return the state after one step: (n,), or (2n,) with the previous gradients for an optimistic step."""
        players = self._players(state[: self.size])
        if self.remembers:
            players.previous = self._values(state[self.size :])
        self.dynamics.step(players)
        moved = self._flat(players.point)
        return torch.cat([moved, self._flat(players.previous)]) if self.remembers else moved

    def step_state(self, state: Tensor) -> Tensor:
        """Return a state from which ``step`` can start: with the present gradients as the previous ones where a step remembers."""
        if not self.remembers:
            return state
        return torch.cat([state, -self.field(state.detach().requires_grad_()).detach()])

    def notes(self) -> list[str]:
        """Return what a reader must know about this linearisation."""
        found = ["It holds for this batch; another batch has another field."]
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for net in self._modules.values() for m in net.modules()):
            found.append("Batch normalisation uses this batch's statistics; its running averages are held.")
        return found

    def _players(self, state: Tensor) -> FunctionalPlayers:
        context = Context(rng=self._draws(), **self._context)  # type: ignore[arg-type]
        point = self._values(state)
        return FunctionalPlayers(self.game, self.generator, self.critic, lambda: self.batch, context, lr=self.lr, point=point)

    def _values(self, state: Tensor) -> dict[Name, Values]:
        parts = state.split([shape.numel() for _, _, shape in self._shapes])
        values: dict[Name, Values] = {name: {} for name in PLAYERS}
        for (name, key, shape), part in zip(self._shapes, parts, strict=True):
            values[name][key] = part.view(shape)
        return values

    def _flat(self, values: Mapping[Name, Values]) -> Tensor:
        return torch.cat([values[name][key].reshape(-1) for name, key, _ in self._shapes])

    def _guard(self) -> None:
        point = self.point().requires_grad_()
        first, second = self.field(point).detach(), self.field(point).detach()
        if not first.isfinite().all():
            raise SteadyganError("The field is not finite at this point: there is nothing to linearise. Start from an earlier checkpoint.")
        if not torch.equal(first, second):
            raise SteadyganError(
                "Two evaluations of the field differ, so it has no Jacobian: call .eval() on networks with dropout or spectral"
                " normalisation, and let noise come from the context's generator, which is the same each time."
            )


def jacobian(function: Map, at: Tensor) -> Tensor:
    """Return the dense Jacobian (m, n) of a flat map at a point (n,), row by row."""
    at = at.detach().requires_grad_()
    out = function(at)
    rows = [torch.autograd.grad(y, at, retain_graph=True, materialize_grads=True, allow_unused=True)[0] for y in out]
    return torch.stack(rows)


class Products:
    """Products with the Jacobian J (m, n) of a flat map at a point, without forming it; counts what it spends."""

    def __init__(self, function: Map, at: Tensor) -> None:
        self._at = at.detach().requires_grad_()
        self._out = function(self._at)
        self._dual = torch.zeros_like(self._out, requires_grad=True)
        # J^T u is linear in u, so its derivative with respect to u along v is J v: a forward product from two reverse ones.
        (self._pulled,) = torch.autograd.grad(self._out, self._at, self._dual, create_graph=True, materialize_grads=True, allow_unused=True)
        self.spent = 0

    def transposed(self, u: Tensor) -> Tensor:
        """Return J^T u."""
        self.spent += 1
        return torch.autograd.grad(self._out, self._at, u, retain_graph=True, materialize_grads=True, allow_unused=True)[0]

    def forward(self, v: Tensor) -> Tensor:
        """Return J v."""
        self.spent += 1
        if not self._pulled.requires_grad:
            return torch.zeros_like(self._out)
        return torch.autograd.grad(self._pulled, self._dual, v, retain_graph=True, materialize_grads=True, allow_unused=True)[0]


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue, the residual ||Jv - λv|| / ||v|| of its eigenvector, and whether the method says that it converged."""

    value: complex
    residual: float
    converged: bool


@dataclass(frozen=True)
class Spectrum:
    """Some eigenvalues, largest first in the asked order, and the number of products with J that they cost."""

    values: list[Eigenvalue]
    products: int
    which: str
    vectors: Any = field(repr=False, default=None)


def leading(function: Map, at: Tensor, count: int = 6, *, which: str = "LM", budget: int = 300, tolerance: float = 1e-6) -> Spectrum:
    """Return leading eigenvalues of the Jacobian by ARPACK: ``which`` is LM (modulus) or LR (real part).

    budget: products with J, about. tolerance: an eigenvalue counts as converged where its residual is below tolerance·|λ|max.
    What did not converge within the budget is returned so labelled, from the subspace that was reached.
    Reference: Lehoucq, Sorensen and Yang 1998.
    """
    products = Products(function, at)
    n = len(at)
    if n <= max(2 * count + 2, 20):
        dense = jacobian(function, at).double().numpy()
        values, vectors = np.linalg.eig(dense)
        order = _order(values, which)[:count]
        return Spectrum(_judged(products, values[order], vectors[:, order], tolerance), n, which, vectors[:, order])
    dtype = at.dtype

    def multiply(x: np.ndarray) -> np.ndarray:
        return products.forward(torch.from_numpy(np.ascontiguousarray(x.ravel())).to(dtype)).double().numpy()

    operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    width = min(n - 1, max(2 * count + 1, 20))
    rounds = max(1, (budget - width) // max(1, width - count))
    try:
        values, vectors = eigs(operator, k=count, which=which, ncv=width, maxiter=rounds, tol=tolerance, v0=start)
    except ArpackNoConvergence as stopped:
        values, vectors = stopped.eigenvalues, stopped.eigenvectors
        if len(values) < count:
            values, vectors = _arnoldi(multiply, start, width, count, which)
    order = _order(values, which)[:count]
    return Spectrum(_judged(products, values[order], vectors[:, order], tolerance), products.spent, which, vectors[:, order])


def _judged(products: Products, values: np.ndarray, vectors: np.ndarray, tolerance: float) -> list[Eigenvalue]:
    scale = max(abs(values).max(initial=0.0), 1e-300)
    found = []
    for value, vector in zip(values, vectors.T, strict=True):
        real, imaginary = (torch.from_numpy(np.ascontiguousarray(part)).to(products._at.dtype) for part in (vector.real, vector.imag))
        image = products.forward(real).double().numpy() + 1j * products.forward(imaginary).double().numpy()
        residual = float(np.linalg.norm(image - value * vector) / np.linalg.norm(vector))
        # Single precision cannot do better than its own rounding.
        floor = max(tolerance, 50 * torch.finfo(products._at.dtype).eps)
        found.append(Eigenvalue(complex(value), residual, bool(residual <= floor * scale)))
    return found


def _arnoldi(
    multiply: Callable[[np.ndarray], np.ndarray], start: np.ndarray, width: int, count: int, which: str
) -> tuple[np.ndarray, np.ndarray]:
    """Ritz values of one Arnoldi factorisation: what can be said when ARPACK's restarts ran out of budget."""
    basis = np.zeros((len(start), width + 1))
    small = np.zeros((width + 1, width))
    basis[:, 0] = start / np.linalg.norm(start)
    for j in range(width):
        image = multiply(basis[:, j])
        for _ in range(2):  # once more, because one pass of Gram-Schmidt loses orthogonality
            overlap = basis[:, : j + 1].T @ image
            small[: j + 1, j] += overlap
            image = image - basis[:, : j + 1] @ overlap
        small[j + 1, j] = np.linalg.norm(image)
        if small[j + 1, j] < 1e-14:
            width = j + 1
            break
        basis[:, j + 1] = image / small[j + 1, j]
    values, vectors = np.linalg.eig(small[:width, :width])
    order = _order(values, which)[:count]
    return values[order], basis[:, :width] @ vectors[:, order]


def _order(values: np.ndarray, which: str) -> np.ndarray:
    key = -values.real if which == "LR" else -abs(values)
    # Equal ones side by side, the upper one of a conjugate pair first, so that a spectrum prints the same each time.
    return np.lexsort((-values.imag, key.round(12)))
