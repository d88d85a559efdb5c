"""Jacobians of a game's vector field and of one step of any dynamics, by automatic differentiation
of the very objects that train."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor, nn

from ..core.context import Context, Draws
from ..core.dynamics import Dynamics, Optimistic
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, FunctionalPlayers, Name, Values
from ..core.registry import build

DENSE = 300
"""Up to so many parameters ``survey`` computes every eigenvalue."""

Map = Callable[[Tensor], Tensor]
"""A differentiable map of flat vectors (n,) -> (n,)."""


class System:
    """A game at one fixed batch as a flat dynamical system: the state is (generator's parameters,
    critic's parameters).

    The networks are copied, so their buffers are held and the caller's stay as they are. Every
    evaluation sees the same batch and, from ``draws()``, the same noise. dynamics: an object or a
    spec. lr: one learning rate, or one for each player. scale (n,): a diagonal that multiplies
    every gradient before it moves a parameter, such as a frozen preconditioner of Adam. An
    optimistic step also carries the previous gradients, so its state is twice as long.

    Raises SteadyganError where the linearisation does not exist (WGAN-GP and DRAGAN at an
    equilibrium, with the reference) and where two evaluations differ (dropout, noise of the
    network's own, spectral normalisation that advances), with what to do.

    >>> game, batch = Game("minimax", ["r1:gamma=1"]), Batch(torch.zeros(4, 1), torch.zeros(4, 1))
    >>> system = System(game, "simultaneous", nn.Linear(1, 1), nn.Linear(1, 1, bias=False), batch, lr=0.1)
    >>> jacobian(system.field, system.point()).shape
    torch.Size([3, 3])

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
        scale: Tensor | None = None,
    ) -> None:
        for regularizer in game.regularizers:
            if regularizer.not_smooth:
                raise SteadyganError(regularizer.not_smooth)
        self.game, self.dynamics, self.batch, self.lr = game, build("dynamics", dynamics), batch, lr
        self.generator, self.critic = (
            _thrice_differentiable(copied(network)) for network in (generator, critic)
        )
        self._draws = draws or (lambda: torch.Generator(batch.real.device).manual_seed(0))
        self._context = {"progress": progress, "memory": memory or {}}
        modules: dict[Name, nn.Module] = {"generator": self.generator, "critic": self.critic}
        self._shapes = [
            (name, key, p.shape)
            for name in PLAYERS
            for key, p in modules[name].named_parameters()
            if p.requires_grad
        ]
        self._modules = modules
        self.split = sum(shape.numel() for name, _, shape in self._shapes if name == "generator")
        self.size = sum(shape.numel() for _, _, shape in self._shapes)
        if not self.size:
            raise SteadyganError(
                "No parameter requires a gradient, so nothing moves: call .requires_grad_() on"
                " the networks first."
            )
        if scale is not None and scale.shape != (self.size,):
            raise SteadyganError(
                f"scale has one entry for each of the {self.size} trainable parameters, not"
                f" shape {tuple(scale.shape)}."
            )
        self._scale = None if scale is None else self._values(scale)
        self._guard()

    @property
    def remembers(self) -> bool:
        """Whether a step's state holds the previous gradients."""
        return isinstance(self.dynamics, Optimistic)

    def point(self) -> Tensor:
        """Return the networks' parameters as a flat state (n,)."""
        parameters = {name: dict(self._modules[name].named_parameters()) for name in PLAYERS}
        return torch.cat(
            [parameters[name][key].detach().reshape(-1) for name, key, _ in self._shapes]
        )

    def field(self, state: Tensor) -> Tensor:
        """Return v(w) of the field that the dynamics follows, (n,), scaled; consensus and unrolling
        modify the game's own."""
        players = self._players(state)
        descent = self.dynamics.field(players, self.batch)
        return -self._flat({name: players.scaled(name, descent[name]) for name in PLAYERS})

    def step(self, state: Tensor) -> Tensor:
        """Return the state after one step: (n,), or (2n,) with the previous gradients for an
        optimistic step."""
        players = self._players(state[: self.size])
        if self.remembers:
            players.previous = self._values(state[self.size :])
        self.dynamics.step(players)
        moved = self._flat(players.point)
        return torch.cat([moved, self._flat(players.previous)]) if self.remembers else moved

    def step_state(self, state: Tensor) -> Tensor:
        """Return a state from which ``step`` can start: with the present gradients as the previous
        ones where a step remembers."""
        if not self.remembers:
            return state
        now = self.dynamics.field(self._players(state.detach().requires_grad_()), self.batch)
        return torch.cat([state, self._flat(now).detach()])

    def notes(self) -> list[str]:
        """Return what a reader must know about this linearisation."""
        found = ["It holds for this batch; another batch has another field."]
        if any(
            isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training
            for net in self._modules.values()
            for m in net.modules()
        ):
            found.append(
                "Batch normalisation uses this batch's statistics; its running averages are held."
            )
        return found

    def _players(self, state: Tensor) -> _Scaled:
        context = Context(rng=self._draws(), **self._context)  # type: ignore[arg-type]
        point = self._values(state)
        players = _Scaled(
            self.game,
            self.generator,
            self.critic,
            lambda: self.batch,
            context,
            lr=self.lr,
            point=point,
        )
        players.scale = self._scale
        return players

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
        with torch.random.fork_rng():
            first = self.field(point).detach()
            before = torch.get_rng_state()
            second = self.field(point).detach()
            drawn = not torch.equal(before, torch.get_rng_state())
        if not first.isfinite().all():
            raise SteadyganError(
                "The field is not finite at this point: there is nothing to linearise. Start"
                " from an earlier checkpoint."
            )
        # Sums on a GPU come in another order each time; what is stochastic differs by far more than
        # that.
        if drawn or (first - second).norm() > 100 * torch.finfo(first.dtype).eps * first.norm():
            raise SteadyganError(
                "Two evaluations of the field differ, so it has no Jacobian:"
                f" {self._culprit(drawn)}"
            )

    def _culprit(self, drawn: bool) -> str:
        modules = [
            (f"{name}.{path}", m)
            for name in PLAYERS
            for path, m in self._modules[name].named_modules()
        ]
        for path, module in modules:
            if (
                isinstance(module, nn.modules.dropout._DropoutNd)
                and module.training
                and module.p > 0
            ):
                return f"{path} is dropout in training mode; call .eval() on the network."
        if drawn:
            return (
                "a network draws noise from torch's global generator; draw it once, outside,"
                " and hold it fixed, or switch it off."
            )
        for path, module in modules:
            if type(module).__name__ in ("_SpectralNorm", "SpectralNorm") and module.training:
                return (
                    f"{path} is spectral normalisation, whose power iteration advances in"
                    " training mode; call .eval() on the network."
                )
        return (
            "a network changes from one call to the next; call .eval() on it, and hold what"
            " it remembers."
        )


class _Scaled(FunctionalPlayers):
    """Players whose gradients are scaled by a fixed diagonal before they move."""

    scale: dict[Name, Values] | None = None

    def scaled(self, player: Name, gradient: Values) -> Values:
        return (
            gradient
            if self.scale is None
            else {key: self.scale[player][key] * g for key, g in gradient.items()}
        )

    def move(self, player: Name, gradient: Values) -> None:
        super().move(player, self.scaled(player, gradient))


def copied(network: nn.Module) -> nn.Module:
    """Return an independent copy of a network; raises SteadyganError where torch cannot copy it,
    with what to do."""
    try:
        return copy.deepcopy(network)
    except RuntimeError as error:
        raise SteadyganError(
            f"{type(network).__name__} cannot be copied: {error} The legacy"
            " torch.nn.utils.spectral_norm and weight_norm do this;"
            " use those of torch.nn.utils.parametrizations."
        ) from error


def _thrice_differentiable(network: nn.Module) -> nn.Module:
    """Turn the output padding of transposed convolutions into a crop of a larger output: the same
    function."""

    # torch 2.13 differentiates output_padding twice, and raises the third time.
    def crop(
        module: nn.Module,
        inputs: tuple[Tensor, ...],
        out: Tensor,
        frame: tuple[tuple[int, int], ...],
    ) -> Tensor:
        for axis, (low, extra) in enumerate(frame, start=-len(frame)):
            out = out.narrow(axis, low, out.shape[axis] - 2 * low + extra)
        return out

    for module in network.modules():
        if not isinstance(module, nn.modules.conv._ConvTransposeNd) or not any(
            module.output_padding
        ):
            continue
        frame = tuple(zip(module.padding, module.output_padding, strict=True))
        if all(low >= extra for low, extra in frame):
            module.padding = module.output_padding = (0,) * len(frame)
            module.register_forward_hook(partial(crop, frame=frame))
    return network


def jacobian(function: Map, at: Tensor) -> Tensor:
    """Return the dense Jacobian (m, n) of a flat map at a point (n,), row by row."""
    at = at.detach().requires_grad_()
    out = function(at)
    rows = [
        torch.autograd.grad(y, at, retain_graph=True, materialize_grads=True, allow_unused=True)[0]
        for y in out
    ]
    return torch.stack(rows)


class Products:
    """Products with the Jacobian J (m, n) of a flat map at a point, without forming it; counts what
    it spends."""

    def __init__(self, function: Map, at: Tensor) -> None:
        self.at = at.detach().requires_grad_()
        self._out = function(self.at)
        self._dual = torch.zeros_like(self._out, requires_grad=True)
        # J^T u is linear in u, so its derivative with respect to u along v is J v: a forward
        # product from two reverse ones.
        (self._pulled,) = torch.autograd.grad(
            self._out,
            self.at,
            self._dual,
            create_graph=True,
            materialize_grads=True,
            allow_unused=True,
        )
        self.spent = 0

    def transposed(self, u: Tensor) -> Tensor:
        """Return J^T u."""
        self.spent += 1
        return torch.autograd.grad(
            self._out, self.at, u, retain_graph=True, materialize_grads=True, allow_unused=True
        )[0]

    def of_array(self, x: np.ndarray) -> np.ndarray:
        """Return J x for a real NumPy vector, in double precision."""
        return _numpy(self.forward(torch.from_numpy(np.ascontiguousarray(x)).to(self.at.detach())))

    def forward(self, v: Tensor) -> Tensor:
        """Return J v."""
        self.spent += 1
        if not self._pulled.requires_grad:
            return torch.zeros_like(self._out)
        return torch.autograd.grad(
            self._pulled,
            self._dual,
            v,
            retain_graph=True,
            materialize_grads=True,
            allow_unused=True,
        )[0]


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue, the residual ||Jv - λv|| / ||v|| of its eigenvector, and whether the method
    says that it converged."""

    value: complex
    residual: float
    converged: bool


@dataclass(frozen=True)
class Spectrum:
    """Some eigenvalues, the asked end first, the number of products with J that they cost, and
    whether they are all there are.

    vectors (n, count): the eigenvectors as columns, or None where they were not kept.
    """

    values: list[Eigenvalue]
    products: int
    which: str
    complete: bool
    vectors: np.ndarray | None = field(repr=False, default=None)


def leading(
    function: Map,
    at: Tensor,
    count: int = 6,
    *,
    which: Literal["LM", "LR"] = "LM",
    budget: int = 300,
    tolerance: float = 1e-6,
) -> Spectrum:
    """Return leading eigenvalues of the Jacobian (n, n) by ARPACK: ``which`` is LM (modulus) or LR
    (real part).

    budget: products with J, about. tolerance: an eigenvalue counts as converged where its residual,
    computed anew, is below tolerance·|λ|max. What did not converge within the budget is returned so
    labelled, from one Arnoldi factorisation.
    Reference: Lehoucq, Sorensen and Yang 1998.

    >>> leading(lambda w: -2 * w, torch.ones(30, dtype=torch.float64), 1).values[0].value.real
    -2.0
    """
    products, n = Products(function, at), len(at)
    width = min(n - 1, max(2 * count + 1, 20))
    if n <= max(2 * count + 2, 20):
        values, vectors = np.linalg.eig(_dense(products, n))
    else:
        rounds = (budget - 2 * width - 2 * count) // (
            width - count
        )  # what is left beside the first factorisation, the last and the check
        values, vectors = (
            _arpack(products, n, count, which, width, rounds, tolerance) if rounds > 0 else _none(n)
        )
        if len(values) < count:
            reached, basis, small = _arnoldi(
                products, at, min(width, max(budget - 2 * count, count + 2))
            )
            new = [
                i
                for i, value in enumerate(reached)
                if not len(values) or abs(values - value).min() > 1e-2 * abs(reached).max()
            ]
            values = np.concatenate([values, reached[new]])
            vectors = np.concatenate([vectors, _numpy(basis) @ small[:-1, new]], axis=1)
    order = _order(values, which)[:count]
    values, vectors = values[order], vectors[:, order]
    residuals = _residuals(products, values, vectors)
    return Spectrum(
        _judged(values, residuals, tolerance, at.dtype),
        products.spent,
        which,
        len(values) == n,
        vectors,
    )


def survey(
    function: Map,
    at: Tensor,
    *,
    budget: int = 40,
    tolerance: float = 1e-3,
    scale: float | None = None,
) -> Spectrum:
    """Return what ``budget`` products tell about the whole spectrum: every eigenvalue of up to 300,
    else the Ritz values, by modulus.

    The Ritz values of one Arnoldi factorisation settle from the outside inwards, at every end at
    once; their residuals are
    |h_{k+1,k} y_k|, which equals ||Jv - λv|| up to rounding. tolerance: relative to ``scale``, by
       default |λ|max. Reference: Saad 2011,
    "Numerical Methods for Large Eigenvalue Problems", section 6.2.

    >>> [round(e.value.real) for e in survey(lambda w: w * torch.tensor([3.0, -5.0]), torch.ones(2)).values]
    [-5, 3]
    """
    products, n = Products(function, at), len(at)
    if n <= DENSE:
        dense = _dense(products, n)
        values, vectors = np.linalg.eig(dense)
        residuals = np.linalg.norm(dense @ vectors - values * vectors, axis=0)
    else:
        values, _, small = _arnoldi(products, at, min(budget, n - 1))
        # The last row carries them; no product is better than its rounding.
        residuals = np.maximum(small[-1].real, torch.finfo(at.dtype).eps * abs(values).max())
    order = _order(values, "LM")
    return Spectrum(
        _judged(values[order], residuals[order], tolerance, at.dtype, scale),
        products.spent,
        "LM",
        n <= DENSE,
    )


def _dense(products: Products, n: int) -> np.ndarray:
    rows = torch.eye(n, dtype=products.at.dtype, device=products.at.device)
    return np.stack([_numpy(products.transposed(row)) for row in rows])


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().double().cpu().numpy()


def _none(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, dtype=complex), np.zeros((n, 0), dtype=complex)


def _arpack(
    products: Products, n: int, count: int, which: str, width: int, rounds: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    operator = LinearOperator(
        (n, n), matvec=lambda x: products.of_array(x.ravel()), dtype=np.float64
    )
    start = np.random.default_rng(0).standard_normal(n)
    precision = max(tolerance, _floor(products.at.dtype))
    try:
        return eigs(
            operator, k=count, which=which, ncv=width, maxiter=rounds, tol=precision, v0=start
        )
    except ArpackNoConvergence as stopped:
        return stopped.eigenvalues, stopped.eigenvectors
    except (
        ArpackError
    ):  # nothing but zeros, or no shift that helps: the one factorisation will say what there is
        return _none(n)


def _arnoldi(products: Products, at: Tensor, width: int) -> tuple[np.ndarray, Tensor, np.ndarray]:
    """Return the Ritz values of one factorisation of ``width`` products, its basis (n, m), and for
    each value a vector in it.

    Below the coordinates of the vectors stands one more row: the residuals.
    """
    basis = torch.zeros(width + 1, len(at), dtype=at.dtype, device=at.device)
    small = np.zeros((width + 1, width))
    start = torch.from_numpy(np.random.default_rng(0).standard_normal(len(at))).to(at)
    basis[0] = start / start.norm()
    for j in range(width):
        image = products.forward(basis[j])
        size = float(image.norm())
        for _ in range(2):  # once more, because one pass of Gram-Schmidt loses orthogonality
            overlap = basis[: j + 1] @ image
            small[: j + 1, j] += _numpy(overlap)
            image = image - overlap @ basis[: j + 1]
        small[j + 1, j] = float(image.norm())
        if small[j + 1, j] <= 10 * torch.finfo(at.dtype).eps * size:
            width = j + 1  # the space is invariant: nothing more can be found from this start
            break
        basis[j + 1] = image / small[j + 1, j]
    values, vectors = np.linalg.eig(small[:width, :width])
    residuals = small[width, width - 1] * abs(vectors[-1])
    return values, basis[:width].T, np.concatenate([vectors, residuals[None]])


def _residuals(products: Products, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    found: list[float] = []
    for i, (value, vector) in enumerate(zip(values, vectors.T, strict=True)):
        if i and value.imag and value == values[i - 1].conjugate():
            found.append(found[-1])
            continue
        image = products.of_array(vector.real) + (
            1j * products.of_array(vector.imag) if vector.imag.any() else 0
        )
        found.append(float(np.linalg.norm(image - value * vector) / np.linalg.norm(vector)))
    return np.array(found)


def _judged(
    values: np.ndarray,
    residuals: np.ndarray,
    tolerance: float,
    dtype: torch.dtype,
    size: float | None = None,
) -> list[Eigenvalue]:
    size = abs(values).max(initial=0.0) if size is None else size
    limit = max(tolerance, _floor(dtype)) * size + 1e-300
    return [
        Eigenvalue(complex(v), float(r), bool(r <= limit))
        for v, r in zip(values, residuals, strict=True)
    ]


def _floor(dtype: torch.dtype) -> float:
    """Return the relative residual below which a precision cannot get: some roundings."""
    return 50 * torch.finfo(dtype).eps


def _order(values: np.ndarray, which: str) -> np.ndarray:
    key = -values.real if which == "LR" else -abs(values)
    # Equal ones side by side, the upper one of a conjugate pair first, so that a spectrum prints
    # the same each time.
    return np.lexsort((-values.imag, key.round(12)))
