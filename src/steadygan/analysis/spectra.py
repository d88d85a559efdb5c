"""Eigenvalues of a Jacobian: all of them for small systems, those at the ends for large ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs
from torch import Tensor

from .linearize import Map, jacobian
from .stability import Modes, modes

DENSE = 300
"""Up to so many parameters every eigenvalue is computed."""


class Products:
    """Products with the Jacobian J (m, n) of a flat map at a point, not formed; counts them."""

    def __init__(self, function: Map, point: Tensor) -> None:
        self.point = point.detach().requires_grad_()
        self._out = function(self.point)
        self._dual = torch.zeros_like(self._out, requires_grad=True)
        # J^T u is linear in u, so its derivative with respect to u along v is J v: a forward
        # product from two reverse ones.
        (self._pulled,) = torch.autograd.grad(
            self._out,
            self.point,
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
            self._out, self.point, u, retain_graph=True, materialize_grads=True, allow_unused=True
        )[0]

    def of_array(self, x: np.ndarray) -> np.ndarray:
        """Return J x for a real NumPy vector, in double precision."""
        return _numpy(
            self.forward(torch.from_numpy(np.ascontiguousarray(x)).to(self.point.detach()))
        )

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
    """An eigenvalue, and the residual ||Jv - λv|| / ||v|| of its eigenvector.

    And whether the method says that it converged.
    """

    value: complex
    residual: float
    converged: bool


@dataclass(frozen=True)
class Spectrum:
    """Some eigenvalues, the asked end first, and the number of products with J that they cost.

    And whether they are all there are. vectors (n, count): the eigenvectors as columns, or None
    where they were not kept.
    """

    values: list[Eigenvalue]
    products: int
    which: str
    complete: bool
    vectors: np.ndarray | None = field(repr=False, default=None)


def leading(
    function: Map,
    point: Tensor,
    count: int = 6,
    *,
    which: Literal["LM", "LR"] = "LM",
    budget: int = 300,
    tolerance: float = 1e-6,
) -> Spectrum:
    """Return leading eigenvalues of the Jacobian (n, n) by ARPACK.

    What did not converge within the budget is returned so labelled, from one Arnoldi factorisation.

    Args:
        function: (n,) -> (n,).
        point: the point (n,) of the Jacobian.
        count: how many eigenvalues.
        which: LM (modulus) or LR (real part).
        budget: products with J, about.
        tolerance: an eigenvalue counts as converged where its residual, computed anew, is below
            tolerance·|λ|max.

    Reference: Lehoucq, Sorensen and Yang 1998.

    >>> leading(lambda w: -2 * w, torch.ones(30, dtype=torch.float64), 1).values[0].value.real
    -2.0
    """
    products, n = Products(function, point), len(point)
    width = min(n - 1, max(2 * count + 1, 20))
    if n <= max(2 * count + 2, 20):
        values, vectors = np.linalg.eig(_numpy(jacobian(function, point)))
    else:
        rounds = (budget - 2 * width - 2 * count) // (
            width - count
        )  # what is left beside the first factorisation, the last and the check
        values, vectors = (
            _arpack(products, n, count, which, width, rounds, tolerance) if rounds > 0 else _none(n)
        )
        if len(values) < count:
            reached, basis, small = _arnoldi(
                products, point, min(width, max(budget - 2 * count, count + 2))
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
        _judged(values, residuals, tolerance, point.dtype),
        products.spent,
        which,
        len(values) == n,
        vectors,
    )


def survey(
    function: Map,
    point: Tensor,
    *,
    budget: int = 40,
    tolerance: float = 1e-3,
    scale: float | None = None,
) -> Spectrum:
    """Return what ``budget`` products tell about the whole spectrum, by modulus.

    Every eigenvalue of up to 300, else the Ritz values. Those of one Arnoldi factorisation settle
    from the outside inwards, at every end at once; their residuals are |h_{k+1,k} y_k|, which
    equals ||Jv - λv|| up to rounding.

    Args:
        function: (n,) -> (n,).
        point: the point (n,) of the Jacobian.
        budget: products with J.
        tolerance: of the residuals, relative to ``scale``.
        scale: by default |λ|max.

    Reference: Saad 2011, "Numerical Methods for Large Eigenvalue Problems", section 6.2.

    >>> found = survey(lambda w: w * torch.tensor([3.0, -5.0]), torch.ones(2))
    >>> [round(e.value.real) for e in found.values]
    [-5, 3]
    """
    n = len(point)
    if n <= DENSE:
        return Spectrum(listed(modes(_numpy(jacobian(function, point)))), n, "LM", True)
    products = Products(function, point)
    values, _, small = _arnoldi(products, point, min(budget, n - 1))
    # The last row carries them; no product is better than its rounding.
    residuals = np.maximum(small[-1].real, torch.finfo(point.dtype).eps * abs(values).max())
    order = _order(values, "LM")
    judged = _judged(values[order], residuals[order], tolerance, point.dtype, scale)
    return Spectrum(judged, products.spent, "LM", False)


def listed(found: Modes) -> list[Eigenvalue]:
    """Return all modes of a dense matrix as eigenvalues: their residuals are rounding."""
    return [
        Eigenvalue(complex(value), float(residual), True)
        for value, residual in zip(found.rates, found.residuals, strict=True)
    ]


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
    precision = max(tolerance, _floor(products.point.dtype))
    try:
        values, vectors = eigs(
            operator, k=count, which=which, ncv=width, maxiter=rounds, tol=precision, v0=start
        )
        return values, vectors
    except ArpackNoConvergence as stopped:
        return stopped.eigenvalues, stopped.eigenvectors
    except (
        ArpackError
    ):  # nothing but zeros, or no shift that helps: the one factorisation will say what there is
        return _none(n)


def _arnoldi(
    products: Products, point: Tensor, width: int
) -> tuple[np.ndarray, Tensor, np.ndarray]:
    """Return the Ritz values of one factorisation of ``width`` products, and its basis (n, m).

    And for each value a vector in the basis. Below the coordinates of the vectors stands one more
    row: the residuals.
    """
    basis = torch.zeros(width + 1, len(point), dtype=point.dtype, device=point.device)
    small = np.zeros((width + 1, width))
    start = torch.from_numpy(np.random.default_rng(0).standard_normal(len(point))).to(point)
    basis[0] = start / start.norm()
    for j in range(width):
        image = products.forward(basis[j])
        size = float(image.norm())
        for _ in range(2):  # once more, because one pass of Gram-Schmidt loses orthogonality
            overlap = basis[: j + 1] @ image
            small[: j + 1, j] += _numpy(overlap)
            image = image - overlap @ basis[: j + 1]
        small[j + 1, j] = float(image.norm())
        if small[j + 1, j] <= 10 * torch.finfo(point.dtype).eps * size:
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
