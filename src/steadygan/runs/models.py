"""From a configuration to networks, latents and samples."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..core.context import Samples
from ..core.errors import SteadyganError
from ..core.registry import build
from ..core.scores import score
from . import checkpoint, exported
from .config import Config, stream_seed
from .description import Description
from .folder import RunFolder
from .latents import LATENTS, Latent
from .profiles import reconstructed


def build_networks(
    config: Config, event: tuple[int, ...], classes: int
) -> tuple[nn.Module, nn.Module]:
    """Return generator and critic, initialised from the run's seed.

    Raises:
        SteadyganError: Where the network cannot make the event, or this machine cannot hold it.
    """
    network = build("network", config.network)

    def made() -> tuple[nn.Module, nn.Module]:
        return network.generator(event, config.latent, classes), network.critic(event, classes)

    with torch.random.fork_rng():
        _check_size(made, config.network)
        torch.manual_seed(stream_seed(config.seed, "init"))
        return made()


def _check_size(made: Callable[[], tuple[nn.Module, nn.Module]], network: str | None) -> None:
    """Refuse networks that memory cannot hold, which the system would answer by a kill."""
    if not hasattr(os, "sysconf"):
        return
    try:
        with torch.device("meta"):  # shapes alone
            sizes = [p.numel() * p.element_size() for module in made() for p in module.parameters()]
    except (SteadyganError, MemoryError):
        raise
    except Exception:  # somebody's network that looks at numbers while it is built
        return
    # Weights, gradients and two moments; a checkpoint holds nearly as much when it is read.
    needed, there = 4 * sum(sizes), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise SteadyganError(
            f"The network {network!r} takes {needed / 2**30:,.1f} GiB in training, and this machine"
            f" has {there / 2**30:,.1f}: lower its width, the resolution or the latent."
        )


def latents(config: Config, n: int, rng: torch.Generator) -> Tensor:
    """Return latents (n, latent): standard normal, or uniform in [-1, 1]."""
    return latent(config).draw(n, rng)


def latent(config: Config) -> Latent:
    """Return the distribution of a run's latents."""
    return LATENTS[config.latent_distribution or "normal"](config.latent or 1)


def labels(classes: int, n: int, times: int = 1) -> Tensor | None:
    """Return labels (n,) that run through the classes, or None without classes.

    Args:
        classes: How many there are.
        n: How many labels.
        times: How often each that occurs must, even if not all classes do.
    """
    return torch.arange(n) % min(classes, max(n // times, 1)) if classes else None


@torch.no_grad()
def generate(
    generator: nn.Module, z: Tensor, y: Tensor | None, device: str, batch: int = 256
) -> Tensor:
    """Return samples (N, *event) for latents z (N, latent) and labels y, on the CPU.

    In evaluation mode and in batches; the mode is restored.
    """
    was_training = generator.training
    generator.eval()
    parts = []
    for start in range(0, len(z), batch):
        inputs = [t[start : start + batch].to(device) for t in (z, y) if t is not None]
        parts.append(generator(*inputs).cpu())
    generator.train(was_training)
    return torch.cat(parts)


def load_generator(
    run: Path | str,
    path: Path | str | None = None,
    *,
    member: int | None = None,
    averaged: bool = True,
    sigma: float | None = None,
) -> nn.Module:
    """Return a trained generator, called as G(z) or, with classes, as G(z, y); the moving average.

    It is on the CPU and in evaluation mode. Its ``latent`` is how many numbers a latent has, its
    ``classes`` how many classes there are (0 without): z is (n, latent), y (n,) int64 below
    classes, the samples are (n, *event), images in [-1, 1]. Only registered networks are built:
    no code that lies in a folder is run, and nothing is unpickled.

    Args:
        run: A run folder, a folder that ``steadygan export`` wrote, or ``hub:USER/NAME``, such a
            folder on the Hugging Face Hub (``hub:USER/NAME@REVISION`` for one version of it).
        path: A checkpoint of a run: ``best``, ``last``, a step, or a file; by default the newest.
        member: Which of many GANs that were trained at once, counted from 0.
        averaged: Take the moving average of the generator where one is kept.
        sigma: Take the average of this profile instead, which need not have been kept: of a run
            with ``ema=power`` (``steadygan list ema``), relative to the steps made.

    Raises:
        SteadyganError: For a folder or a file that is none of steadygan's.
    """
    loaded = load(run, path, member, averaged, sigma)
    generator = loaded.generator.eval()
    vars(generator).update(latent=loaded.config.latent, classes=loaded.classes)
    return generator


def load_sampler(
    run: Path | str,
    path: Path | str | None = None,
    *,
    member: int | None = None,
    averaged: bool = True,
    sigma: float | None = None,
) -> tuple[Callable[[int, int], Tensor], int]:
    """Return a run's generator as ``sample(n, seed) -> (n, *event)``, and its step.

    Latents are drawn as the run draws them, labels run through the classes. Arguments and errors
    are those of ``load_generator``.
    """
    loaded = load(run, path, member, averaged, sigma)

    def sample(n: int, seed: int) -> Tensor:
        z = latents(loaded.config, n, torch.Generator().manual_seed(stream_seed(seed, "sample")))
        return generate(loaded.generator, z, labels(loaded.classes, n), "cpu")

    return sample, loaded.step


def load_critic(
    run: Path | str,
    batch: int,
    path: Path | str | None = None,
    *,
    running: bool = False,
) -> Callable[[Tensor], Tensor]:
    """Return a run's discriminator as ``critic(x) -> logits``, (N, *event) -> (N,).

    Dropout is off. Batch normalisation takes the statistics of each batch, as in training, where
    real and generated samples come apart.

    Args:
        run: As for ``load_generator``.
        batch: How many samples it looks at at a time.
        path: As for ``load_generator``.
        running: Take the moving averages of batch normalisation instead, which are those of real
            and generated samples together, as the published code of Roth et al. 2017 infers.

    Raises:
        SteadyganError: As ``load_generator``.
    """
    critic = load(run, path).critic.eval()
    for module in critic.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not running:
            module.train()

    @torch.no_grad()
    def judge(x: Tensor) -> Tensor:
        # A last batch of one sample would have no statistics: it joins the one before.
        sizes = [batch] * (len(x) // batch)
        if rest := len(x) % batch:
            sizes = [*sizes, rest] if rest > 1 or not sizes else [*sizes[:-1], batch + 1]
        return torch.cat([score(critic, Samples(part)).logits for part in x.split(sizes)])

    return judge


def load_member(
    run: Path | str, member: int, path: Path | None = None
) -> tuple[Config, nn.Module, nn.Module]:
    """Return one of many GANs: configuration, generator and critic.

    The generator is its moving average where there is one. Arguments and errors as
    ``load_generator``.
    """
    loaded = load(run, path, member)
    return loaded.config, loaded.generator, loaded.critic


def describe(run: Path | str) -> Description:
    """Return what a run, an exported folder or the Hub's says of itself; errors as for ``load``."""
    folder = exported.locate(run)
    if exported.is_exported(folder):
        return exported.describe(folder)
    return RunFolder.open(folder).describe()


class Loaded(NamedTuple):
    """What was trained: networks with their weights, and what is said of them.

    ``checkpoint`` is the file that the weights are from; None where they are from no run folder.
    """

    about: Description
    config: Config
    classes: int
    generator: nn.Module
    critic: nn.Module
    step: int
    checkpoint: Path | None


class Which(NamedTuple):
    """Which weights of a generator are meant, as ``--ema`` of the commands spells it.

    ``kept`` is the moving average where there is one, ``none`` the generator that was trained, and
    ``sigma=S`` the average of a profile chosen now.

    >>> str(Which.of("sigma=0.150")), Which.of("none").averaged
    ('sigma=0.15', False)
    """

    averaged: bool = True
    sigma: float | None = None

    @staticmethod
    def of(spelled: str) -> Which:
        """Return what a spelling means.

        Raises:
            SteadyganError: For any other.
        """
        if spelled in ("kept", "none"):
            return Which(spelled == "kept")
        name, _, text = spelled.partition("=")
        if name == "sigma":
            with suppress(ValueError):
                return Which(sigma=float(text))
        raise SteadyganError(
            f"ema is kept, none, or the width of an average's weights relative to the steps made,"
            f" such as sigma=0.15, not {spelled!r}"
        )

    def __str__(self) -> str:
        if self.sigma is not None:
            return f"sigma={self.sigma:g}"
        return "kept" if self.averaged else "none"


def load(
    run: Path | str,
    path: Path | str | None = None,
    member: int | None = None,
    averaged: bool = True,
    sigma: float | None = None,
) -> Loaded:
    """Return both networks of a run, of an exported folder or of the Hub's.

    Arguments and errors are those of ``load_generator``.
    """
    folder = exported.locate(run, averaged)
    if exported.is_exported(folder):
        if path is not None or member is not None or sigma is not None:
            raise SteadyganError(
                f"{run} holds one exported GAN: it has no other checkpoints, averages and members."
            )
        about, file = exported.describe(folder), None
        tree = exported.read(folder, averaged)
    else:
        about = RunFolder.open(folder).describe()
        if about.is_fleet and member is None:
            raise SteadyganError(
                f"{run} holds many GANs: say which with --member K, counted from 0 as in its"
                " report."
            )
        file = checkpoint.named(folder, path)
        tree = checkpoint.load(file)
    config = about.config if member is None else about.config_of(member)
    networks = build_networks(config, about.event, about.classes)
    with checkpoint.fitting(file or folder, config.network):
        if sigma is not None:
            tree["ema"] = reconstructed(folder, sigma, tree["step"])
        states = ((averaged and tree.get("ema")) or tree["generator"], tree["critic"])
        for network, values in zip(networks, states, strict=True):
            network.load_state_dict(
                values if member is None else {key: v[member] for key, v in values.items()}
            )
        steps = tree.get("steps")  # each member's own, in the best of many GANs
        step = int(tree["step"] if steps is None or member is None else steps[member])
    return Loaded(about, config, about.classes, *networks, step, file)
