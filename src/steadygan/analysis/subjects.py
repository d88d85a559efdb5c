"""Whom the doctor sees: a run folder at its newest checkpoint, or a user's file with a GAN."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.context import Context
from ..core.dynamics import Dynamics
from ..core.errors import SteadyganError
from ..core.game import Game
from ..core.players import PLAYERS, Batch, Name
from ..core.registry import build
from ..runs import checkpoint
from ..runs.config import made, stream_seed
from ..runs.folder import RunFolder, is_fleet
from ..runs.format import CONFIG
from ..runs.models import build_networks, latents
from .doctor import SAMPLES, Diagnosis, diagnose, first
from .path import GamePath, game_path

_MUST = ("generator", "critic", "data", "latents", "objective")
_MAY = (
    "regularizers",
    "smoothing",
    "constraint",
    "lr",
    "optimizers",
    "dynamics",
    "labels",
    "progress",
)


@dataclass(frozen=True)
class Subject:
    """A GAN as ``analysis.doctor.diagnose`` takes it."""

    name: str
    game: Game
    generator: nn.Module
    critic: nn.Module
    batch: Batch
    dynamics: Dynamics | str = "alternating"
    lr: float | Mapping[Name, float] | None = None
    optimizers: Mapping[Name, torch.optim.Optimizer] | None = None
    progress: float | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    fresh: Callable[[int], tuple[nn.Module, nn.Module]] | None = None
    earlier: tuple[nn.Module, nn.Module] | None = None
    """Generator and critic at the run's oldest checkpoint, where it keeps more than one."""

    def path(self) -> GamePath | None:
        """Return the field between the earlier state and this one.

        None where there is no earlier one, or the penalty has a kink.
        """
        if self.earlier is None or any(r.not_smooth for r in self.game.regularizers):
            return None
        context = Context(progress=self.progress, memory=self.memory)
        return game_path(
            self.game,
            self.earlier,
            (self.generator, self.critic),
            first(self.batch, SAMPLES),
            context=context,
        )

    def diagnose(self, alternatives: Sequence[str] | None = None, **settings: Any) -> Diagnosis:
        """Return the doctor's findings, with the doctor's own alternatives where none are given."""
        held: dict[str, Any] = {
            key: getattr(self, key)
            for key in ("dynamics", "lr", "optimizers", "progress", "memory", "fresh")
        }
        settings = {**held, "alternatives": alternatives, **settings}
        return diagnose(self.game, self.generator, self.critic, self.batch, **settings)


def load_subjects(path: Path | str, member: int | None = None) -> list[Subject]:
    """Return the GAN of a run folder or of a .py file, or those that were trained at once.

    Args:
        path: A run folder, or a file.
        member: Which of many GANs, counted from 0; without, all of them.

    Raises:
        SteadyganError: Where it is neither, or where something is missing.
    """
    folder = Path(path)
    if member is None and (folder / CONFIG).is_file() and is_fleet(folder):
        about = RunFolder.open(folder).describe()
        return [load_run(folder, i) for i in range(len(about.members))]
    return [load_subject(path, member)]


def load_subject(path: Path | str, member: int | None = None) -> Subject:
    """Return the GAN of a run folder or of a .py file, or one member of many.

    Raises:
        SteadyganError: where it is neither, or where something is missing.
    """
    path = Path(path)
    if path.suffix == ".py":
        if member is not None:
            raise SteadyganError(f"{path} makes one GAN, which has no members.")
        return load_user_gan(path)
    if not path.exists():
        raise SteadyganError(
            f"There is no {path}: give a run folder, or a .py file that offers make_game()."
        )
    return load_run(path, member)


def load_run(path: Path | str, member: int | None = None, step: int | None = None) -> Subject:
    """Return a run's networks, optimizers and memory from a checkpoint, by default the newest.

    With a batch of its own data and fixed noise, the same at every checkpoint.

    Args:
        path: A run folder.
        member: Which of many GANs that were trained at once, counted from 0.
        step: Of a checkpoint that the run keeps.

    Raises:
        SteadyganError: for a folder that is no run, or whose checkpoint does not fit.
    """
    folder = RunFolder.open(Path(path))
    about = folder.describe()
    if about.is_fleet and member is None:
        raise SteadyganError(
            f"{path} holds many GANs: say which with --member K, counted from 0 as in its report."
        )
    config = about.config if member is None else about.config_of(member)
    here = checkpoint.named(folder.path, None if step is None else str(step))
    oldest = checkpoint.checkpoints(folder.path)[0]
    tree = _of_member(here, member, config.network)
    problem = about.problem()
    generator, critic = build_networks(config, about.event, about.classes)
    optimizers: dict[Name, torch.optim.Optimizer] = {}
    with checkpoint.fitting(here, config.network):
        # Those of many GANs differ, and stay.
        then = made(config, tree) if member is None else config
        for name, network, spelled in zip(
            PLAYERS, (generator, critic), (then.optimizer, then.critic_optimizer), strict=True
        ):
            optimizers[name] = build("optimizer", spelled)(network.parameters())
            network.load_state_dict(tree[name])
            checkpoint.restore_optimizer(optimizers[name], tree["optimizer"][name])
        progress = min(1.0, tree["step"] / (config.steps or 1))
        memory = dict(tree["memory"])
    earlier = build_networks(config, about.event, about.classes)
    if oldest != here:
        before = _of_member(oldest, member, config.network)
        with checkpoint.fitting(oldest, config.network):
            for name, network in zip(PLAYERS, earlier, strict=True):
                network.load_state_dict(before[name])
    problem.load()
    if problem.classes != about.classes:
        raise SteadyganError(
            f"{path} was trained on {about.classes} classes, and its data have {problem.classes}"
            " now: put back what was there."
        )
    with about.sound("what it says of its data"):
        changes = problem.changes(about.data) if about.data else []
    if changes:
        warnings.warn(
            f"the data of {path} have changed, and the doctor looks at what is there now:"
            f" {'; '.join(changes)}",
            stacklevel=2,
        )
    stream = problem.stream(stream_seed(config.seed, "diagnosis"))
    n = min(config.batch or 1, SAMPLES)
    x, y = stream.draw(n)
    # What is looked at is a batch, and more follow for a trial to train on.
    more = stream.draw(min(POOL, max(SAMPLES, POOL_SIZE // max(x[0].numel(), 1))))
    x = torch.cat([x, more.x])
    y = None if y is None or more.labels is None else torch.cat([y, more.labels])
    z = latents(
        config, n, torch.Generator().manual_seed(stream_seed(config.seed, "diagnosis-latents"))
    )
    return Subject(
        name=Path(path).resolve().name + ("" if member is None else f" member {member}"),
        game=config.game(),
        generator=generator,
        critic=critic,
        batch=Batch(x, z, None if y is None else (y, y)),
        dynamics=config.dynamics,
        optimizers=optimizers,
        progress=progress,
        memory=memory,
        fresh=lambda seed: build_networks(replace(config, seed=seed), about.event, about.classes),
        earlier=None if oldest == here else earlier,
    )


POOL, POOL_SIZE = 2048, 2**24
"""How many real samples of a run a trial draws from, and how many numbers they are at most."""


def _of_member(path: Path, member: int | None, network: str | None) -> checkpoint.Tree:
    """Return what a checkpoint holds, of many GANs what it holds of one of them."""
    tree = checkpoint.load(path)
    if member is None:
        return tree

    def own(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: own(value) for key, value in node.items()}
        stacked = isinstance(node, Tensor) and node.ndim and len(node) == count
        return node[member] if stacked else node

    kept = ("generator", "critic", "optimizer", "memory")
    with checkpoint.fitting(path, network):
        count = len(tree["alive"])
        return {**tree, **{key: own(tree[key]) for key in kept}}


def load_user_gan(path: Path | str) -> Subject:
    """Return the GAN that a .py file's ``make_game()`` returns.

    It is a dictionary, or an object, with these names.

    generator, critic: ``torch.nn.Module``, the critic's logits large on real samples. data: real
    samples (B, *event). latents: (B, ...).
    objective: a spec, such as 'nonsaturating'. lr: a number, or {'generator': ..., 'critic': ...};
    or optimizers: torch's, by the same two names. Optional: regularizers (specs), smoothing,
    constraint, dynamics ('alternating'), labels (real, generated), progress.

    The file is run: diagnose only files that you trust.

    Raises:
        SteadyganError: with all that is missing or of another type.
    """
    path = Path(path)
    made = _made(path)
    given = (
        dict(made)
        if isinstance(made, Mapping)
        else {key: getattr(made, key) for key in (*_MUST, *_MAY) if hasattr(made, key)}
    )
    missing = [key for key in _MUST if given.get(key) is None]
    if given.get("lr") is None and given.get("optimizers") is None:
        missing.append("lr (or optimizers)")
    strange = sorted(set(given) - {*_MUST, *_MAY})
    if missing or strange:
        parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [
            f"has {', '.join(strange)}, which nothing reads"
        ] * bool(strange)
        raise SteadyganError(
            f"{path}: what make_game() returns {' and '.join(parts)}. It needs"
            f" {', '.join(_MUST)}; it may have {', '.join(_MAY)}."
        )
    for key, kind, what in (
        *((name, nn.Module, "a torch.nn.Module") for name in PLAYERS),
        *((name, Tensor, "a tensor, its first axis the samples") for name in ("data", "latents")),
    ):
        if not isinstance(given[key], kind):
            raise SteadyganError(f"{path}: {key} is {what}, not {type(given[key]).__name__}.")
    for key in ("lr", "optimizers"):
        if isinstance(given.get(key), Mapping) and set(given[key]) != set(PLAYERS):
            raise SteadyganError(
                f"{path}: {key} names the players 'generator' and 'critic', not"
                f" {', '.join(map(repr, given[key]))}."
            )
    labels = given.get("labels")
    if labels is not None and not (isinstance(labels, tuple | list) and len(labels) == 2):
        raise SteadyganError(
            f"{path}: labels are two tensors, those of the real and those of the generated samples."
        )
    game = Game(
        given["objective"],
        given.get("regularizers") or (),
        given.get("smoothing"),
        given.get("constraint"),
    )
    return Subject(
        name=path.name,
        game=game,
        generator=given["generator"],
        critic=given["critic"],
        batch=Batch(
            given["data"].detach(),
            given["latents"].detach(),
            None if labels is None else (labels[0], labels[1]),
        ),
        dynamics=given.get("dynamics") or "alternating",
        lr=given.get("lr"),
        optimizers=given.get("optimizers"),
        progress=given.get("progress"),
    )


def _made(path: Path) -> Any:
    if not path.is_file():
        raise SteadyganError(f"There is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"steadygan_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a name that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up
    sys.path.insert(0, str(path.parent))  # as with python FILE: it may import its neighbours
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "make_game", None)):
            raise SteadyganError(
                f"{path} has no function make_game(); see 'steadygan diagnose --help' for what"
                " it returns."
            )
        return module.make_game()
    except SteadyganError:
        raise
    except Exception as error:
        raise SteadyganError(
            f"{path} could not be run: {type(error).__name__}: {error}."
        ) from error
    finally:
        sys.path.remove(str(path.parent))
