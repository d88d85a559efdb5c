"""From a configuration to networks, latents and samples."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.context import Samples
from ..core.errors import SteadyganError
from ..core.registry import build
from ..core.scores import Scores, score, squared_norm
from . import checkpoint
from .config import Config, stream_seed
from .folder import RunFolder


def build_networks(
    config: Config, event: tuple[int, ...], classes: int
) -> tuple[nn.Module, nn.Module]:
    """Return generator and critic, initialised from the run's seed; raises SteadyganError where the
    network cannot make the event."""
    network = build("network", config.network)
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(config.seed, "init"))
        return network.generator(event, config.latent, classes), network.critic(event, classes)


def latents(config: Config, n: int, rng: torch.Generator) -> Tensor:
    """Return latents (n, latent): standard normal, or uniform in [-1, 1]."""
    shape = (n, config.latent or 1)
    return (
        torch.rand(shape, generator=rng) * 2 - 1
        if config.latent_distribution == "uniform"
        else torch.randn(shape, generator=rng)
    )


def labels(classes: int, n: int) -> Tensor | None:
    """Return labels (n,) that run through the classes, or None without classes."""
    return torch.arange(n) % classes if classes else None


@torch.no_grad()
def generate(
    generator: nn.Module, z: Tensor, y: Tensor | None, device: str, batch: int = 256
) -> Tensor:
    """Return samples for latents z (N, latent) and labels y, on the CPU, in evaluation mode and in
    batches; the mode is restored."""
    was_training = generator.training
    generator.eval()
    parts = []
    for start in range(0, len(z), batch):
        inputs = [t[start : start + batch].to(device) for t in (z, y) if t is not None]
        parts.append(generator(*inputs).cpu())
    generator.train(was_training)
    return torch.cat(parts)


def slope_norm(critic: nn.Module, scores: Scores) -> float:
    """Return the mean norm of the critic's input gradient at scored samples, without a trace in its
    buffers or in the random streams."""
    gradient = scores.gradient
    if gradient is None:
        values = {name: t.detach().clone() for name, t in critic.named_buffers()}
        with torch.random.fork_rng(), torch.no_grad():
            samples = Samples(scores.x.detach(), scores.labels)
            gradient = score(
                lambda *inputs: functional_call(critic, values, inputs), samples, gradient=True
            ).gradient
    assert gradient is not None
    return squared_norm(gradient).sqrt().mean().item()


class Average:
    """Moving average of a module's parameters and buffers: a <- d a + (1 - d) m with d = min(decay,
    (1 + t)/(10 + t))."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards a module after its step number ``step``; integer buffers are copied."""
        # The young average follows quickly, so that it does not drag its random start along.
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        for mine, theirs in zip(
            self.module.state_dict().values(), module.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)


def load_sampler(
    run: Path, path: Path | None = None, *, averaged: bool = True
) -> tuple[Callable[[int, int], Tensor], int]:
    """Return a run's generator as ``sample(n, seed) -> (n, *event)``, and its step; the moving
    average where the run keeps one.

    path: a checkpoint file, by default the newest. averaged=False: the generator itself in any
    case. Raises SteadyganError for a folder or a file that is none of steadygan's.
    """
    config, classes, generator, _, tree = _load(run, path)
    _fill(generator, (averaged and tree.get("ema")) or tree["generator"], config)
    return sampler(config, generator, classes), int(tree["step"])


def sampler(config: Config, generator: nn.Module, classes: int) -> Callable[[int, int], Tensor]:
    """Return a generator as ``sample(n, seed) -> (n, *event)``, from the configuration's latents;
    labels run through the classes."""

    def sample(n: int, seed: int) -> Tensor:
        z = latents(config, n, torch.Generator().manual_seed(stream_seed(seed, "sample")))
        return generate(generator, z, labels(classes, n), "cpu")

    return sample


def load_critic(run: Path, batch: int, path: Path | None = None) -> Callable[[Tensor], Tensor]:
    """Return a run's discriminator as ``critic(x) -> logits``, (N, *event) -> (N,), in batches of
    that size.

    path: a checkpoint file, by default the newest. Batch normalisation takes the statistics of each
    batch, as in training, where real and generated samples come apart; a moving average would be
    that of a mixture which the discriminator never sees. Dropout is off. Raises SteadyganError as
    ``load_sampler``.
    """
    config, _, _, critic, tree = _load(run, path)
    _fill(critic, tree["critic"], config)
    critic.eval()
    for module in critic.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()

    @torch.no_grad()
    def judge(x: Tensor) -> Tensor:
        # A last batch of one sample would have no statistics: it joins the one before.
        sizes = [batch] * (len(x) // batch)
        if rest := len(x) % batch:
            sizes = [*sizes, rest] if rest > 1 or not sizes else [*sizes[:-1], batch + 1]
        return torch.cat([score(critic, Samples(part)).logits for part in x.split(sizes)])

    return judge


def _load(
    run: Path, path: Path | None
) -> tuple[Config, int, nn.Module, nn.Module, checkpoint.Tree]:
    description = RunFolder.open(run).read("config.json")
    config = Config.from_json(description["config"])
    generator, critic = build_networks(config, tuple(description["event"]), description["classes"])
    return (
        config,
        description["classes"],
        generator,
        critic,
        checkpoint.load(path or checkpoint.latest(run)),
    )


def _fill(network: nn.Module, values: dict[str, Tensor], config: Config) -> None:
    try:
        network.load_state_dict(values)
    except (RuntimeError, KeyError) as error:
        raise SteadyganError(
            f"The checkpoint does not fit the network {config.network!r}: {error}."
        ) from error
