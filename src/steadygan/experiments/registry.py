"""All experiments by name, in the order of the papers; then those of others."""

from __future__ import annotations

from ..core.errors import SteadyganError, unknown
from . import atlas, atlas_images
from .mescheder import dirac as mescheder_dirac
from .mescheder import eigenvalues as mescheder_eigenvalues
from .mescheder import images as mescheder_images
from .mescheder import plane as mescheder_2d
from .mescheder import table1 as mescheder_table1
from .mescheder import theorem as mescheder_theorem
from .roth import annealing as roth_annealing
from .roth import cost as roth_cost
from .roth import crosstest as roth_crosstest
from .roth import f_divergences as roth_f_divergences
from .roth import generator_regularized as roth_generator_regularized
from .roth import images as roth_images
from .roth import mixture as roth_mixture
from .roth import noise as roth_noise
from .roth import rates as roth_learning_rates
from .roth import remarks as roth_remarks
from .roth import survival as roth_survival
from .spec import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        roth_noise.EXPERIMENT,
        roth_remarks.EXPERIMENT,
        roth_mixture.FIG1,
        roth_mixture.FIG5,
        roth_mixture.FIG6,
        roth_mixture.LATENT15,
        roth_generator_regularized.EXPERIMENT,
        roth_images.FIG23,
        roth_images.FIG4,
        roth_cost.EXPERIMENT,
        roth_crosstest.EXPERIMENT,
        roth_annealing.EXPERIMENT,
        roth_f_divergences.EXPERIMENT,
        roth_survival.EXPERIMENT,
        roth_learning_rates.EXPERIMENT,
        mescheder_dirac.EXPERIMENT,
        mescheder_eigenvalues.EXPERIMENT,
        mescheder_table1.EXPERIMENT,
        mescheder_theorem.EXPERIMENT,
        mescheder_2d.EXPERIMENT,
        mescheder_images.EXPERIMENT,
        atlas.EXPERIMENT,
        atlas_images.EXPERIMENT,
    )
}


def add(experiment: Experiment) -> Experiment:
    """Make an experiment of one's own known by its name, for ``reproduce NAME --import FILE``.

    Args:
        experiment: With a name that is not taken.

    Returns:
        The same.

    Raises:
        SteadyganError: Where another experiment has the name.
    """
    taken = EXPERIMENTS.get(experiment.name)
    # A file that is imported again defines the same experiment again.
    if taken is not None and (taken.what, taken.source) != (experiment.what, experiment.source):
        raise SteadyganError(f"There is an experiment {experiment.name!r} already: {taken.what}.")
    EXPERIMENTS[experiment.name] = experiment
    return experiment


def experiment(name: str) -> Experiment:
    """Return an experiment.

    Raises:
        SteadyganError: For a name that there is not, with the choices.

    >>> experiment("roth-fig5").what
    'the 3-D submanifold mixture itself'
    """
    if name not in EXPERIMENTS:
        raise unknown("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name]
