"""What the networks themselves are: ends, frozen and dead parts, modes, paths of gradients."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...core.context import Samples
from ...core.errors import some
from ...core.players import PLAYERS, Name
from ...core.players.base import generate
from ...problems.measures import spread
from ..blind import BLIND, sight
from ..ends import bounded
from ..trials.change import START_AGAIN, Change, rates
from .balance import OFF
from .fact import Fact
from .seen import DATA, LATENTS, Seen, activations, silent

STALE, UNSEEN = 1.0, 1e6
"""By how many standard deviations remembered statistics may be off; what counts as that where there
are none."""

DEAF = 1e-3
"""The share of the data's spread below which a generator does not hear its latent."""


def non_finite(seen: Seen) -> Fact:
    """Return the fact of numbers that are not finite."""
    lost = seen.lost
    said = "no number is infinite or nan"
    if lost:
        said = f"not finite: {some(lost, 3)}"
    cure = rates(seen.gan, 0.1).and_anew()
    if given := [what for what in (DATA, LATENTS) if what in lost]:
        cure = Change(f"keep what is not finite out of {' and '.join(given)}", {"given": "finite"})
    return Fact("non-finite", len(lost), 0, bool(lost), said, True, (cure,))


def bounded_logits(seen: Seen) -> Fact:
    """Return the fact of an operation at the critic's end that bounds its logits."""
    y = None if seen.batch.labels is None else seen.batch.labels[0]
    end = bounded(seen.networks["critic"], Samples(seen.batch.real, y), seen.reading)
    real, fake = seen.logits
    low, high = min(real.min(), fake.min()), max(real.max(), fake.max())
    said = f"logits lie between {float(low):.3g} and {float(high):.3g}, and nothing bounds them"
    if end:
        said = (
            f"The critic's logits are bounded by its last operation, {end} (from {float(low):.3g}"
            f" to {float(high):.3g} here): it cannot say how sure it is, and what it passes on to"
            " the generator fades"
        )
    cures: tuple[Change, ...] = ()
    if end:
        words = f"take the {end.partition(':')[0]} from the end of the critic"
        words += ": the losses take logits, of either sign and any size"
        cures = _with_start(Change(words, {"logits": True}))
    return Fact("bounded-logits", float(bool(end)), 0, bool(end), said, True, cures)


def frozen(seen: Seen) -> Fact:
    """Return the fact of parameters that no optimizer moves."""
    still, total = 0, 0
    where, stopped, empty = [], list[Name](), list[Name]()
    for name, network in seen.gan.networks.items():
        if not any(True for _ in network.parameters()):
            empty.append(name)
        moved = held = None
        if seen.gan.optimizers:
            groups = seen.gan.optimizers[name].param_groups
            if not any(group["lr"] for group in groups):
                stopped.append(name)
            held = {id(p) for group in groups for p in group["params"]}
            moved = {id(p) for group in groups for p in group["params"] if group["lr"]}
        kept = _kept(network, held)
        for key, p in network.named_parameters():
            total += p.numel()
            if id(p) not in kept and not (p.requires_grad and (moved is None or id(p) in moved)):
                still += p.numel()
                where.append(f"{name}.{key}")
    share = still / max(total, 1)
    said = "every parameter that is to train is moved by an optimizer"
    if where:
        said = (
            f"{share:.0%} of the parameters do not move: {some(where)} need no"
            " gradient, are in no optimizer, or in a group of it with a learning rate of 0"
        )
    cures = _with_start(
        Change("let all layers train (requires_grad, and the optimizer's list)", {"unfreeze": True})
    )
    if stopped:
        said = f"the {' and the '.join(stopped)} cannot move: the learning rate is 0"
        cures = (Change("give every player a learning rate above 0", {"rates": "positive"}),)
    if empty:
        share = 1.0
        said = f"the {' and the '.join(empty)} has no parameters: nothing of it can learn"
        cures = (Change("give both players a module with parameters", {"parameters": "some"}),)
    return Fact("frozen", share, 0.0, bool(where or empty), said, True, cures)


def evaluation_mode(seen: Seen) -> Fact | None:
    """Return the fact of batch or instance normalisation whose statistics are not the batch's."""
    worst, where = 0.0, ""
    norms = 0
    for name, network in seen.networks.items():
        for key, module in network.named_modules():
            if not isinstance(module, nn.modules.batchnorm._NormBase):
                continue
            norms += 1
            if module.training or module.running_var is None:
                continue
            gap = _stale(seen, name, module)
            if gap > worst:
                worst, where = gap, f"{name}.{key}"
    if not norms:
        return None
    wrong = worst > STALE
    said = "batch normalisation takes the statistics of what passes through it"
    if wrong:
        said = (
            f"{where} is in evaluation mode and its remembered statistics are not those of the"
            f" batch (by {worst:.2g} standard deviations): it normalises nothing"
        )
    if worst == UNSEEN:
        said = f"{where} is in evaluation mode and never saw a batch: it normalises nothing"
    cure = Change("train in training mode: call .train() before the steps", {"train": True})
    return Fact("eval-mode", worst, STALE, wrong, said, True, _with_start(cure))


def detached(seen: Seen) -> Fact:
    """Return the fact of parameters or samples to which no gradient comes."""
    cut = [f"{name}.{key}" for name in PLAYERS for key in _cut(seen, name)]
    count = sum(len(layers) for layers in seen.pulls.values())
    share, said = len(cut) / max(count, 1), "every parameter gets a gradient"
    if seen.input_pull is None:
        share, said = 1.0, "the critic's logits do not depend on its input: the generator learns"
        said += " nothing from it (detach, no_grad or item in its forward)"
    elif cut:
        said = (
            f"no gradient reaches {some(cut)}: something cuts the graph (detach,"
            " no_grad, argmax), or they are not used"
        )
    elif _flat(seen):
        share = 1.0
        said = (
            "the critic's logit is the same for every sample, and no gradient reaches its weights:"
            " its units are dead, or its end is constant (a normalisation or a softmax of one"
            " number)"
        )
    elif name := _never_moved(seen):
        share = 1.0
        said = (
            f"the {name} never got a gradient while the other player did: its loss was taken on"
            " samples that are detached, or its optimizer is not stepped"
        )
    cures: tuple[Change, ...] = (
        Change("let the gradient through: take the detach (or no_grad) away", {"detach": False}),
    )
    wrong = share > 0
    if wrong and seen.input_pull is not None and not cut and _flat(seen):
        words = "take away what makes the critic's logit constant"
        cures = (START_AGAIN,) if _pulled_anew(seen, "critic") else (Change(words, {"end": None}),)
    return Fact("detached", share, 0.0, wrong, said, True, cures)


def blind(seen: Seen) -> Fact | None:
    """Return the fact of a critic that sees neither where a batch lies nor how large it is."""
    y = None if seen.batch.labels is None else seen.batch.labels[0]
    figure = sight(seen.networks["critic"], Samples(seen.batch.real, y), seen.reading)
    if figure is None:
        return None
    wrong = figure < BLIND
    said = "the critic sees where a batch lies and how large it is"
    if wrong:
        said = (
            "the critic normalises each batch before it has seen it: all samples moved and"
            f" stretched at once have the same logits (to {figure:.1g} of their spread), so that"
            " nothing tells the generator where to put them"
        )
    cure = Change("leave batch normalisation out of the critic", {"sight": True})
    return Fact("blind-critic", figure, BLIND, wrong, said, True, _with_start(cure))


def deaf(seen: Seen) -> Fact:
    """Return the fact of a generator that is deaf to its latent, or dead."""
    real, fake = seen.spreads
    figure = fake / max(real, 1e-12)
    layer, share = silent(seen.networks["generator"], activations(seen, "generator"))
    latent = seen.batch.latent
    alike = (
        latent.is_floating_point()
        and len(latent) > 1
        and float(latent.double().std(0).max()) < 1e-6
    )
    # Where the critic is flat that is no fault of the generator's.
    steep = seen.input_pull is not None and bool(seen.input_pull.any())
    still = steep and not _pulled(seen, "generator")
    certain = share > 0.95 or alike or still or fake < 1e-12
    dead = certain or figure < DEAF
    said = f"samples change with the latent: they spread {figure:.2g} times as widely as data"
    if alike:
        said = "the latents that were given are all the same"
    elif share > 0.95:
        said = f"{share:.0%} of the units of the generator's {layer} are 0 for every latent"
    elif figure < DEAF:
        said = f"the generator makes the same whatever its latent is ({figure:.1g} of the data's"
        said += " spread)"
    elif still:
        said = "the generator's gradient is exactly 0, and the critic's slope is not"
    cures: tuple[Change, ...] = (
        START_AGAIN,
        Change("start the generator again", {"anew": ["generator"]}),
    )
    if alike or (dead and not _hears(seen)):
        # Nor do networks that start again hear it.
        cures = (Change("let the latents differ, and reach the samples", {"latents": "varied"}),)
    elif still and not _pulled_anew(seen, "generator"):
        words = "take away what has no derivative (rounding, sign, comparisons) from the generator"
        cures = (Change(words, {"detach": False}),)
    return Fact("dead-generator", figure, DEAF, dead, said, certain, cures)


def saturated(seen: Seen) -> Fact | None:
    """Return the fact of samples that stick to the ends of what the generator can make."""
    low, high = seen.reach
    if not math.isfinite(high - low):
        return None
    end = (seen.end or "").partition(":")[0]

    def stuck(x: Tensor) -> float:
        edge = 1e-3 * (high - low)
        return float(((x < low + edge) | (x > high - edge)).double().mean())

    figure = stuck(seen.fake) - stuck(seen.batch.real)
    wrong = figure > 0.5
    said = f"{stuck(seen.fake):.0%} of the samples' values stick to the ends of the {end}"
    return Fact(
        "saturated", figure, 0.5, wrong, said, False, (START_AGAIN, rates(seen.gan, 0.1).and_anew())
    )


def _pulled(seen: Seen, name: Name) -> bool:
    """Return whether any of a player's weights gets a gradient other than 0."""
    weights = [g for g in seen.pulls[name].values() if g is not None and g.ndim > 1]
    layers = weights if name == "critic" and weights else seen.pulls[name].values()
    return any(g is not None and bool(g.any()) for g in layers)


def _pulled_anew(seen: Seen, name: Name) -> bool:
    """Return whether networks that start again get a gradient; True where none can be made."""
    begun = seen.gan.anew(0)
    return begun is None or _pulled(replace(seen, networks=begun), name)


def _flat(seen: Seen) -> bool:
    """Return whether the critic is constant, and will stay so, far from the data."""
    slope = seen.input_pull
    constant = slope is not None and slope.numel() > 0 and not bool(slope.any())
    return constant and not _pulled(seen, "critic") and seen.off > OFF


def _kept(network: nn.Module, held: set[int] | None) -> set[int]:
    """Return the parameters that are meant to stay as they are, beside others that train.

    Those that need no gradient and are not held by the optimizer either, or, where none is known,
    those of whole modules.
    """
    if not any(p.requires_grad for p in network.parameters()):
        return set()
    if held is not None:
        return {id(p) for p in network.parameters() if not p.requires_grad} - held
    own = [list(module.parameters()) for module in network.modules()]
    return {id(p) for part in own if not any(p.requires_grad for p in part) for p in part}


def _with_start(change: Change) -> tuple[Change, ...]:
    return (change.and_anew(), change)


def _cut(seen: Seen, name: Name) -> list[str]:
    """Return the parameters to which no gradient comes back though they count for what is made."""
    layers = seen.pulls[name]
    lost = [key for key, gradient in layers.items() if gradient is None]
    # A player whose parameters are all without use learns nothing; a part alone may be so for now.
    if len(lost) in (0, len(layers)):
        return lost
    return [key for key in lost if _counts(seen, name, [key])] if _counts(seen, name, lost) else []


@torch.no_grad()
def _counts(seen: Seen, name: Name, keys: Sequence[str]) -> bool:
    """Return whether what a player makes changes with any of some parameters."""
    made = []
    with torch.random.fork_rng():
        for moved in (False, True):
            # Spectral normalisation goes on with each call: both begin where it stands.
            network = copy.deepcopy(seen.networks[name])
            for p in (network.get_parameter(key) for key in keys if moved):
                p.add_((1 + p.abs()) * torch.randn_like(p))
            torch.manual_seed(0)
            made.append(seen.made(name, network))
    return not torch.allclose(made[0], made[1])


def _never_moved(seen: Seen) -> str:
    optimizers = seen.gan.optimizers
    if not optimizers:
        return ""
    moved = {
        name: _memory(optimizers[name], network) > 0 for name, network in seen.gan.networks.items()
    }
    if sum(moved.values()) != 1:
        return ""
    still: Name = next(name for name in PLAYERS if not moved[name])
    # A gradient that is 0 of itself is another matter.
    pulled = any(g is not None and bool(g.any()) for g in seen.pulls[still].values())
    return still if pulled and _remembers(seen, still) else ""


def _memory(optimizer: torch.optim.Optimizer, network: nn.Module) -> float:
    """Return the largest number that an optimizer remembers of a network's parameters."""
    sizes = [
        float(value.abs().max())
        for p in network.parameters()
        for key, value in (optimizer.state.get(p) or {}).items()
        if isinstance(value, Tensor) and value.ndim and value.numel() and key != "step"
    ]
    return max(sizes, default=0.0)


def _remembers(seen: Seen, name: Name) -> bool:
    """Return whether steps of a player's optimizer leave a memory; those of plain SGD do not."""
    network = copy.deepcopy(seen.networks[name])
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    optimizer = seen.gan.optimizer(name, network, new=True)
    optimizer.step()
    return _memory(optimizer, network) > 0


@torch.no_grad()
def _hears(seen: Seen) -> bool:
    """Return whether a generator at its start makes different samples of different latents."""
    begun = seen.gan.anew(0)
    return begun is None or spread(generate(begun["generator"], seen.batch)) > 1e-12


@torch.no_grad()
def _stale(seen: Seen, name: Name, module: nn.Module) -> float:
    """Return by how many standard deviations remembered and present statistics differ."""
    taken: list[Tensor] = []
    hook = module.register_forward_hook(lambda m, given, out: taken.append(given[0]))
    try:
        seen.made(name, seen.networks[name])
    finally:
        hook.remove()
    if not taken:
        return 0.0  # nothing passes through it
    # Never in training mode, it holds the statistics of nothing; torch does not count an instance
    # normalisation's batches.
    counted = not isinstance(module, nn.modules.instancenorm._InstanceNorm)
    if counted and module.num_batches_tracked is not None and not module.num_batches_tracked:
        return UNSEEN
    x = taken[0].double()
    axes = [i for i in range(x.ndim) if i != 1]
    mean, var = x.mean(axes), x.var(axes)
    held_mean, held_var = (
        torch.as_tensor(getattr(module, f"running_{what}")).double() for what in ("mean", "var")
    )
    gap = ((mean - held_mean).abs() / (held_var + 1e-5).sqrt()).mean()
    ratio = (0.5 * ((var + 1e-5) / (held_var + 1e-5)).log()).abs().mean()
    return float(torch.maximum(gap, ratio))
