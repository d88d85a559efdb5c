"""All experiments by name, in the order of the papers."""

from __future__ import annotations

from ..core.errors import unknown
from . import mescheder_dirac, mescheder_eigenvalues, mescheder_table1, mixture, roth_noise
from .spec import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        roth_noise.EXPERIMENT,
        mixture.FIG5,
        mixture.FIG6,
        mescheder_dirac.EXPERIMENT,
        mescheder_eigenvalues.EXPERIMENT,
        mescheder_table1.EXPERIMENT,
    )
}

PLANNED = {
    "roth-fig1": "one critic step: unregularized GANs collapse after tens of thousands of iterations, regularized ones stand",
    "roth-latent15": "Figures 1 and 6 with a 15-dimensional latent",
    "roth-generator-regularized": "the regularizer in the generator's objective too",
    "roth-fig2-fig3": "four image architectures without regularizer, with it, and with WGAN-GP",
    "roth-fig4": "explicit noise against the regularizer on images",
    "roth-cost": "training-time factors",
    "roth-crosstest": "cross-testing on CIFAR-10",
    "roth-annealing": "constant against annealed γ",
    "roth-f-divergences": "the f-GAN regularizer for every divergence on the mixture",
    "mescheder-2d": "2-D densities, every method over a grid of learning rates and γ",
    "mescheder-images": "R1 ResNet without normalisation on images",
}
"""What the papers have besides, and nothing here runs yet."""


def experiment(name: str) -> Experiment:
    """Return an experiment; raises SteadyganError with the choices for a name that there is not.

    >>> experiment("roth-fig5").what
    'the 3-D submanifold mixture itself'
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
