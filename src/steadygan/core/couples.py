"""What lets the samples of a batch see each other, declared by the objects that do it.

A loss is else a mean over samples (over pairs of a real with a generated one, where it compares):
the loss of a batch is the mean of the losses of its parts, so that parts may be looked at together,
apart, on several processes or for many GANs at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from torch import nn

if TYPE_CHECKING:
    from .game import Game


class Couples(NamedTuple):
    """A declaration, as the attribute ``couples`` of a part of a game or of a network's module.

    what: in words, for messages. by: 'means' where a sample sees the others only through means over
    the batch, and takes these over ``Context.whole`` (a game does so for its objective), so that
    several processes compute exactly what one would; 'batch'
    where it sees them in any other way. samples: whose: all, or real ones only.
    """

    what: str
    by: Literal["means", "batch"]
    samples: Literal["all", "real"] = "all"


BATCH_NORM = Couples("means and variances of batch normalisation", "means")


def couples_of(network: nn.Module) -> dict[str, Couples]:
    """Return what couples the samples that pass through a network now, by the path of the module.

    It knows declarations and torch's own batch normalisation. A module of somebody else's that
    declares nothing may couple all the same; the gradient paths look at what it does.

    >>> couples_of(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))["1"].by
    'means'
    """
    found = {path: getattr(module, "couples", None) for path, module in network.named_modules()}
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            found[path] = BATCH_NORM
    return {path: couples for path, couples in found.items() if isinstance(couples, Couples)}


def coupled(network: nn.Module) -> str:
    """Return which layer of a network couples its samples, and by what; '' where none declares it.

    >>> coupled(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    'its layer 1 (BatchNorm1d) couples samples, by means and variances of batch normalisation'
    """
    for path, couples in couples_of(network).items():
        layer = f"its layer {path} " if path else "it "
        kind = type(network.get_submodule(path)).__name__
        return f"{layer}({kind}) couples samples, by {couples.what}"
    return ""


def couples_in(game: Game) -> dict[str, Couples]:
    """Return what couples the samples of a game's batch, by the name of the part that declares it.

    >>> from steadygan.core.game import Game
    >>> couples_in(Game("relativistic-average", "r1"))["RelativisticAverage"].by
    'means'
    """
    parts = (game.objective, *game.regularizers, game.smoothing, game.augment)
    return {
        type(part).__name__: part.couples
        for part in parts
        if part is not None and part.couples is not None
    }


__all__ = ["BATCH_NORM", "Couples", "coupled", "couples_in", "couples_of"]
