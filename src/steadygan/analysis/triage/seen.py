"""What is measured of a GAN before anything is judged: one look at one batch, copies throughout."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from ...core.context import Context, Samples
from ...core.errors import SteadyganError, some
from ...core.game import Game
from ...core.players import PLAYERS, Batch, Name
from ...core.players.base import generate
from ...core.reading import Reading
from ...core.scores import by_output, score
from ...core.terms import CriticTerms
from ...problems.measures import sliced_wasserstein, spread
from ..ends import last_range, reach
from ..gan import Gan, at_rate, some_of
from ..linearize import copied

LOOKED = 256
"""How many samples are looked at."""

LEAST_RATE = 1e-6
"""Learning rates below this one are not tried themselves."""

Layers = dict[str, Tensor | None]
"""A loss's gradient by a parameter's name; None where no path leads to the parameter."""


@dataclass(frozen=True)
class Seen:
    """Figures of a GAN on one batch; each is taken when it is asked for.

    Attributes:
        gan: Whose.
        batch: What was looked at.
        networks: Copies, in the modes in which the networks are.
    """

    gan: Gan
    batch: Batch
    networks: Mapping[Name, nn.Module]

    @staticmethod
    def of(gan: Gan, count: int = LOOKED) -> Seen:
        """Return what there is to see on ``count`` of the samples."""
        data = gan.data
        n = min(count, len(data.real))
        places, other = some_of(len(data.real), n), some_of(len(data.latent), n)
        latent = data.latent[other]
        if len(latent) < n:
            latent = gan.latents(n, torch.Generator().manual_seed(0))
        labels = data.labels
        if labels is not None:
            counts = [len(y) if isinstance(y, Tensor) and y.ndim else 0 for y in labels]
            if len(counts) != 2 or counts[0] != len(data.real) or not counts[1]:
                given = [
                    f"{tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
                    for y in labels
                ]
                raise SteadyganError(
                    f"Labels are two tensors, those of the {len(data.real)} real samples and those"
                    f" of generated ones, not {some(given)}."
                )
            more = torch.arange(n) if len(other) < n else other
            labels = labels[0][places], labels[1][more % len(labels[1])]
        networks = {name: copied(network) for name, network in gan.networks.items()}
        return Seen(gan, Batch(data.real[places], latent, labels), networks)

    @property
    def game(self) -> Game:
        """What both players minimise."""
        return self.gan.game

    @property
    def reading(self) -> Reading:
        """How nested lists of logits are read."""
        return self.game.outputs.reading

    @cached_property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(p.numel() for net in self.networks.values() for p in net.parameters())

    @cached_property
    def fake(self) -> Tensor:
        """Generated samples (B, *event)."""
        with torch.no_grad(), called("generator", "latents", self.batch.latent):
            return generate(self.networks["generator"], self.batch)

    @torch.no_grad()
    def made(self, name: Name, network: nn.Module) -> Tensor:
        """Return what a player's network makes of the batch: samples, or real samples' logits."""
        if name == "generator":
            return generate(network, self.batch)
        y = None if self.batch.labels is None else self.batch.labels[0]
        return score(network, Samples(self.batch.real, y), reading=self.reading).logits

    @cached_property
    def logits(self) -> tuple[Tensor, Tensor]:
        """The critic's logits on real and on generated samples, in double precision."""
        y_real, y_fake = self.batch.labels or (None, None)
        sides = {
            "real samples": Samples(self.batch.real, y_real),
            "generated samples": Samples(self.fake, y_fake),
        }
        found = []
        for what, side in sides.items():
            with torch.no_grad(), called("critic", what, side.x):
                judged = score(self.networks["critic"], side, reading=self.reading)
                found.append(judged.logits.double().flatten())
        return found[0], found[1]

    @cached_property
    def lost(self) -> list[str]:
        """What is no finite number: parameters, memories, samples, logits, losses, gradients."""
        found = [
            f"{name}.{key}"
            for name, net in self.networks.items()
            for key, p in (*net.named_parameters(), *net.named_buffers())
            if p.is_floating_point() and not p.isfinite().all()
        ]
        for name, optimizer in (self.gan.optimizers or {}).items():
            memory = [
                value
                for state in optimizer.state.values()
                for value in state.values()
                if isinstance(value, Tensor) and value.is_floating_point()
            ]
            if not all(value.isfinite().all() for value in memory):
                found.append(f"the memory of the {name}'s optimizer")
        given = {DATA: self.batch.real, LATENTS: self.batch.latent}
        found += [what for what, x in given.items() if not x.isfinite().all()]
        # What follows from what is lost already tells nothing more.
        if not found and not self.fake.isfinite().all():
            found.append("the samples")
        sides = ("logits on data", "logits on samples")
        if not found:
            found += [w for w, x in zip(sides, self.logits, strict=True) if not x.isfinite().all()]
        if not found:
            losses = self.losses.items()
            found += [f"the {name}'s loss" for name, loss in losses if not math.isfinite(loss)]
        return found or [
            f"the gradient of {name}.{key}"
            for name, layers in self.pulls.items()
            for key, g in layers.items()
            if g is not None and not g.isfinite().all()
        ]

    @cached_property
    def _judged(self) -> CriticTerms:
        critic = self.networks["critic"]
        with torch.enable_grad():
            terms = self.game.critic_terms(
                critic, self.batch.real, self.fake, labels=self.batch.labels, at=self._context()
            )
        return terms.detach()

    @property
    def terms(self) -> tuple[float, float]:
        """The critic's objective without penalties, and its penalties."""
        return float(self._judged.objective), float(self._judged.penalty)

    @cached_property
    def swapped_loss(self) -> float:
        """The critic's objective with real and generated logits exchanged."""
        bare = Game(self.game.objective, outputs=self.game.outputs)
        real, fake = (self._judged.scores[name] for name in ("real", "fake"))
        return float(bare.value({"real": fake, "fake": real}).objective)

    @cached_property
    def _outputs(self) -> list[tuple[float, Tensor]]:
        """What each of the critic's outputs counts, and all of its logits."""
        parts, many = by_output(self._judged.scores), self._judged.scores["fake"].outputs
        shares = self.game.outputs.shares(len(parts)) if many else (1.0,)
        sides = (torch.cat([part["real"].logits, part["fake"].logits]).double() for part in parts)
        return list(zip(shares, sides, strict=True))

    @property
    def indifferent(self) -> float:
        """The objective of a critic that cannot tell real from generated; 0 where none is known."""
        return self.game.objective.indifferent * sum(share for share, _ in self._outputs)

    @property
    def variance(self) -> float:
        """The variance of the logits, added up over the outputs as their losses are."""
        return sum(share * float(logits.var()) for share, logits in self._outputs)

    @cached_property
    def order(self) -> float:
        """The share of pairs in which the real sample's logit is the larger (ties count half)."""
        real, fake = self.logits
        gap = real[:, None] - fake[None, :]
        return float((gap > 0).double().mean() + 0.5 * (gap == 0).double().mean())

    @cached_property
    def off(self) -> float:
        """How far samples are from the data, in distances of a point at the data's mean."""
        real, fake = (x.flatten(1).double() for x in (self.batch.real, self.fake))
        point = real.mean(0, keepdim=True).expand_as(real)
        return sliced_wasserstein(fake, real) / max(sliced_wasserstein(point, real), 1e-12)

    @cached_property
    def spreads(self) -> tuple[float, float]:
        """How widely real and generated samples spread, in units of the data."""
        return spread(self.batch.real), spread(self.fake)

    @cached_property
    def class_spread(self) -> tuple[float, str] | None:
        """The least share of the real spread within a class, and which; None without classes.

        Samples whose labels agree in every column are of one class.
        """
        if self.batch.labels is None or self.batch.labels[0].is_floating_point():
            return None
        y_real, y_fake = (y.flatten(1) if y.ndim > 1 else y[:, None] for y in self.batch.labels)
        # Captions may be of as many words as the longest of their batch.
        if y_real.shape[1] != y_fake.shape[1]:
            return None
        shares = []
        for y in y_real.unique(dim=0):
            real, fake = (
                x[(labels == y).all(1)]
                for x, labels in ((self.batch.real, y_real), (self.fake, y_fake))
            )
            if len(real) > 3 and len(fake) > 3 and spread(real):
                shares.append((spread(fake) / spread(real), " ".join(map(str, y.tolist()))))
        return min(shares) if shares else None

    @property
    def losses(self) -> dict[Name, float]:
        """Each player's loss."""
        return {name: loss for name, (loss, _) in self._taken.items()}

    @property
    def pulls(self) -> dict[Name, Layers]:
        """The gradient of each player's loss by parameter."""
        return {name: layers for name, (_, layers) in self._taken.items()}

    @cached_property
    def _taken(self) -> dict[Name, tuple[float, Layers]]:
        found: dict[Name, tuple[float, Layers]] = {}
        for name, network in self.networks.items():
            own = {key: p for key, p in network.named_parameters() if p.requires_grad}
            with torch.enable_grad():
                loss = self._loss(name)
            gradients = (
                torch.autograd.grad(loss, list(own.values()), allow_unused=True)
                if own and loss.requires_grad
                else [None] * len(own)
            )
            layers = dict(zip(own, gradients, strict=True))
            found[name] = float(loss.detach()), layers
        return found

    @cached_property
    def input_pull(self) -> Tensor | None:
        """The gradient of the logits in generated samples; None where no path leads to them."""
        x = self.fake.detach().requires_grad_()
        y = None if self.batch.labels is None else self.batch.labels[1]
        with torch.enable_grad():
            logits = score(self.networks["critic"], Samples(x, y), reading=self.reading).logits
            if not logits.requires_grad:
                return None
            return torch.autograd.grad(logits.sum(), x, allow_unused=True)[0]

    @property
    def end(self) -> str | None:
        """What bounds the generator's samples: its last operations, in words."""
        return self._ends[0]

    @property
    def reach(self) -> tuple[float, float]:
        """The least and the most that the generator can make, ±inf where nothing bounds it."""
        return self._ends[1]

    @cached_property
    def _ends(self) -> tuple[str | None, tuple[float, float]]:
        with torch.enable_grad():
            out = generate(self.networks["generator"], self.batch)
        return last_range(out), reach(out)

    @cached_property
    def first_moves(self) -> dict[Name, float]:
        """By how much of their size a new optimizer's first step moves a player's weights.

        Those at the start, or those of now where they cannot be made anew.
        """
        begun = self.gan.anew(0) or {n: copy.deepcopy(net) for n, net in self.networks.items()}
        for name, network in begun.items():
            network.train(self.networks[name].training)
        fresh = Seen(self.gan, self.batch, begun)
        return {name: fresh._stepped(name, new=True) for name in PLAYERS}

    @cached_property
    def kept_pace(self) -> dict[Name, float]:
        """How far a step goes by what a player's optimizer remembers, beside a new optimizer's.

        1 where that cannot be told.
        """
        found = {}
        for name in PLAYERS:
            without = self._stepped(name, new=True)
            found[name] = self._stepped(name, new=False) / without if without else 1.0
        return found

    def _stepped(self, name: Name, *, new: bool) -> float:
        """Return by how much of their size one step, by a new optimizer or not, moves weights."""
        # A small step would be lost in the rounding of single precision.
        network = copy.deepcopy(self.networks[name]).double()
        named = {key: p for key, p in network.named_parameters() if p.requires_grad}
        if not named:
            return 0.0
        optimizer = self.gan.optimizer(name, network, new=new)
        weights = [p for p in named.values() if p.ndim > 1] or list(named.values())
        before = [p.detach().clone() for p in weights]
        # Moves grow with the rate; what one far below rounding makes is told from a larger one.
        rate = max(self.gan.lr[name], LEAST_RATE)
        at_rate(optimizer, rate)
        for key, p in named.items():
            pull = self.pulls[name].get(key)
            p.grad = None if pull is None else pull.double()
        optimizer.step()
        pairs = zip(weights, before, strict=True)
        moved = math.sqrt(sum(float((p.detach() - b).square().sum()) for p, b in pairs))
        size = math.sqrt(sum(float(b.square().sum()) for b in before))
        return moved * (self.gan.lr[name] / rate) / max(size, 1e-12)

    def _context(self) -> Context:
        rng = torch.Generator(self.batch.real.device).manual_seed(0)
        return Context(self.gan.progress, rng, self.gan.memory)

    def _loss(self, name: Name) -> Tensor:
        critic, labels = self.networks["critic"], self.batch.labels
        fake = generate(self.networks["generator"], self.batch)
        take = self.game.critic_loss if name == "critic" else self.game.generator_loss
        if name == "critic":
            fake = fake.detach()
        return take(critic, self.batch.real, fake, labels=labels, at=self._context())


DATA, LATENTS = "the data", "the latents"


@contextmanager
def called(player: Name, what: str, given: Tensor) -> Iterator[None]:
    """Say of which samples a network that cannot be called was given.

    Args:
        player: Whose network it is.
        what: Of what kind the samples are.
        given: Those.

    Raises:
        SteadyganError: Where the call fails.
    """
    try:
        yield
    except (SteadyganError, torch.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
        lines = str(error).strip().splitlines()
        raise SteadyganError(
            f"The {player} fails on {what} of shape {tuple(given.shape)} and {given.dtype}"
            f" ({lines[0] if lines else type(error).__name__}). Give the batch as training gives"
            " it: of the shape and precision that the networks take, on their device, and with"
            " labels where they take some."
        ) from error


def silent(network: nn.Module, run: Mapping[str, Tensor]) -> tuple[str, float]:
    """Return the activation most of whose units are 0 for every sample, and their share.

    Args:
        network: Whose.
        run: Outputs of its activations by name, (B, ...).
    """
    shares = {
        name: float((out.detach() == 0).reshape(len(out), -1).all(0).double().mean())
        for name, out in run.items()
    }
    worst = max(shares, key=lambda name: shares[name], default="")
    return (worst, shares[worst]) if worst else ("", 0.0)


def activations(seen: Seen, name: Name) -> dict[str, Tensor]:
    """Return the outputs of a player's rectifying modules on the batch, by name."""
    network, found = seen.networks[name], dict[str, Tensor]()
    hooks = [
        module.register_forward_hook(lambda m, a, out, key=key: found.__setitem__(key, out))
        for key, module in network.named_modules()
        if isinstance(module, nn.ReLU | nn.ReLU6)
    ]
    try:
        seen.made(name, network)
    finally:
        for hook in hooks:
            hook.remove()
    return found


__all__ = ["DATA", "LATENTS", "LOOKED", "Seen", "activations", "silent"]
