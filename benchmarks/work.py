"""What is timed: every piece of work by name, made only when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from textbook import Textbook, dirac_autograd, dirac_floats, dirac_numpy
from torch import Tensor, nn

from steadygan import Game, build
from steadygan.analysis.portrait import simulate
from steadygan.core.context import Context
from steadygan.core.gradients import critic_gradient, decide
from steadygan.core.players import PLAYERS, Batch, OptimizerPlayers
from steadygan.core.players.plans import OFTEN
from steadygan.core.players.stacked import FleetPlayers, stack
from steadygan.evaluation.frechet import frechet_distance
from steadygan.experiments.timing import Job
from steadygan.runs.optimizers import quick

PENALTIES = {
    "none": [],
    "r1": ["r1:gamma=1"],
    "r1r2": ["r1r2:gamma=1"],
    "js": ["js:gamma=1"],
    "wgan-gp": ["wgan-gp:gamma=20"],
}
ADAM = "adam:lr=0.0002,beta1=0.5"


class Case(NamedTuple):
    """Networks, data and settings; the 3-D mixture for vectors, noise in [-1, 1] for images, whose
    content costs nothing."""

    network: str
    event: tuple[int, ...]
    batch: int
    latent: int
    objective: str = "nonsaturating"
    optimizer: str = ADAM

    def pair(self) -> tuple[nn.Module, nn.Module]:
        """Return generator and critic, of the same weights each time."""
        torch.manual_seed(0)
        network = build("network", self.network)
        return network.generator(self.event, self.latent), network.critic(self.event)

    def draws(self) -> Callable[[], tuple[Tensor, Tensor]]:
        """Return what draws the batch of an update: real samples and latents."""
        if len(self.event) == 1:
            stream = build("problem", "mixture3d").stream(seed=0)
            return lambda: (stream.draw(self.batch).x, torch.randn(self.batch, self.latent))
        pool = (
            torch.rand(2 * self.batch, *self.event, generator=torch.Generator().manual_seed(0)) * 2
            - 1
        )
        starts = torch.Generator().manual_seed(1)

        def draw() -> tuple[Tensor, Tensor]:
            i = int(torch.randint(self.batch, (), generator=starts))
            return pool[i : i + self.batch], torch.randn(self.batch, self.latent)

        return draw

    def game(self, penalty: str) -> Game:
        """Return the game with one of PENALTIES; WGAN-GP comes with Wasserstein's objective."""
        return Game("wasserstein" if penalty == "wgan-gp" else self.objective, PENALTIES[penalty])


# ------------------------------------------------------------ ways to do it


def textbook(case: Case, penalty: str) -> Textbook:
    """Return the textbook's training of a case."""
    game, adam = case.game(penalty), build("optimizer", case.optimizer)
    gamma = float(next(iter(game.strengths().values()), 0.0))
    objective = "wasserstein" if penalty == "wgan-gp" else case.objective
    return Textbook(
        *case.pair(),
        case.draws(),
        objective=objective,
        penalty=penalty,
        gamma=gamma,
        optimizer=adam,
    )


def ours(
    case: Case, penalty: str, *, path: str = "auto", layout: str = "auto", **settings: Any
) -> Callable[[], Any]:
    """Return one iteration as the trainer makes it; layout: auto (the trainer's choice), plain or
    channels_last."""
    share, bf16, fused = (
        settings.pop("share", False),
        settings.pop("bf16", False),
        settings.pop("fused", False),
    )
    game, (generator, critic), draw = case.game(penalty), case.pair(), case.draws()
    few = torch.randn(8, *case.event, generator=torch.Generator().manual_seed(0))
    at = Context(rng=torch.Generator().manual_seed(0))
    decided = decide(game, critic, game.points(few, few, at=at)).path if path == "auto" else path
    together, chains = decided != "separate", decided == "chain"
    if len(case.event) == 3 and (layout == "channels_last" or (layout == "auto" and together)):
        generator, critic = (
            network.to(memory_format=torch.channels_last) for network in (generator, critic)
        )
    make = build("optimizer", f"{case.optimizer},fused={str(fused or chains).lower()}")
    optimizers = {
        name: make(network.parameters())
        for name, network in zip(PLAYERS, (generator, critic), strict=True)
    }
    players = OptimizerPlayers(
        game,
        generator,
        critic,
        lambda: Batch(*draw()),
        at,
        optimizers=optimizers,
        path=path,
        keep_fakes=share,
        chains=chains,
        **settings,
    )
    dynamics = build("dynamics", f"alternating:share={str(share).lower()}")

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            dynamics.step(players)

    return step


def slope(case: Case, penalty: str, path: str, layout: str = "plain") -> Callable[[], Any]:
    """Return the gradient of the critic's loss alone, by a path, on one batch."""
    game, (generator, critic), (real, z) = case.game(penalty), case.pair(), case.draws()()
    with torch.no_grad():
        fake = generator(z)
    if layout == "channels_last":
        critic = critic.to(memory_format=torch.channels_last)
    parameters = list(critic.parameters())
    return lambda: critic_gradient(game, critic, real, fake, parameters, path=path)


def passes(case: Case, player: str, layout: str) -> Callable[[], Any]:
    """Return a forward pass of one network without a graph: the unit F in which operations are
    counted."""
    network = dict(zip(PLAYERS, case.pair(), strict=True))[player]
    real, z = case.draws()()
    x = z if player == "generator" else real
    if layout == "channels_last":
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    return torch.no_grad()(lambda: network(x))


def fleet(case: Case, members: int, way: str) -> Callable[[], Any]:
    """Return one iteration of each of so many GANs with JS: one after the other, or at once."""
    if way.endswith("one by one"):
        steps = [
            textbook(case, "js").step if way.startswith("textbook") else ours(case, "js")
            for _ in range(members)
        ]
        return lambda: [step() for step in steps]
    pairs, draws = [case.pair() for _ in range(members)], [case.draws() for _ in range(members)]
    generator, critic = (stack([pair[i] for pair in pairs]) for i in (0, 1))
    make = quick(build("optimizer", case.optimizer))
    optimizers = {
        name: make(network.parameters())
        for name, network in zip(PLAYERS, (generator, critic), strict=True)
    }

    def draw() -> Batch:
        real, latent = zip(*(one() for one in draws), strict=True)
        return Batch(torch.stack(real), torch.stack(latent))

    rngs = [torch.Generator().manual_seed(i) for i in range(members)]
    rates = dict.fromkeys(PLAYERS, [make.lr] * members)
    games = [case.game("js")] * members
    players = FleetPlayers(
        games,
        generator,
        critic,
        draw,
        rngs=rngs,
        optimizers=optimizers,
        rates=rates,
        compiled=way == "compiled",
        chains=True,
    )
    dynamics = build("dynamics", "alternating")
    for _ in range(OFTEN if way == "eager" else 0):
        dynamics.step(players)
    return lambda: dynamics.step(players)


def frechet(interval: bool, samples: int, features: int) -> Callable[[], Any]:
    """Return the Fréchet distance of two samples, as steadygan gives it or its value alone."""
    rng = torch.Generator().manual_seed(0)
    pair = torch.randn(2, samples, features, generator=rng).double()
    if interval:
        return lambda: frechet_distance(*pair)

    def value() -> Any:
        centred = [x - x.mean(0) for x in pair]
        a, b = (torch.linalg.qr(x, mode="r")[1] / (samples - 1) ** 0.5 for x in centred)
        gap = (pair[0].mean(0) - pair[1].mean(0)).square().sum()
        return gap + a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()

    return value


def dirac(trajectories: int, steps: int, compiled: bool) -> Callable[[], Any]:
    """Return a simulation of many trajectories by steadygan; what a compiled one compiles at its
    start is part of it."""
    game, starts = (
        Game("minimax", "r1:gamma=0.5"),
        torch.randn(trajectories, 2, generator=torch.Generator().manual_seed(0)),
    )
    return lambda: simulate(
        game, "simultaneous", starts, lr=0.1, steps=steps, every=steps, compiled=compiled
    )


# ------------------------------------------------------------ the list


class Scale(NamedTuple):
    """How much is measured."""

    rounds: int
    seconds: float
    cases: dict[str, Case]
    penalties: dict[str, tuple[str, ...]]
    members: tuple[int, ...]
    batches: tuple[int, ...]
    dirac: tuple[int, int, int]
    compiled: tuple[str, ...]
    growth: dict[str, Case]


def scale(name: str) -> Scale:
    """Return the sizes of ``tiny`` (for the tests), ``quick`` or ``full``."""
    tiny, full = name == "tiny", name == "full"
    recipe = build("problem", "mixture3d").recipe
    # A quarter of the ResNet's usual width, a sixteenth of the work: what fits a CPU.
    wide, narrow, images, points = (4, 4, 4, 32) if tiny else (64, 16, 64, recipe.batch)
    mlp = "mlp:width=16" if tiny else recipe.network
    vectors = {
        "batch": points,
        "latent": recipe.latent,
        "objective": recipe.objective,
        "optimizer": recipe.optimizer,
    }
    side = 16 if tiny else 32

    def dcgan(width: int, side: int, batch: int, rest: str) -> Case:
        return Case(f"dcgan:width={width},{rest}", (3, side, side), batch, 128)

    plain = "norm=none,critic_norm=none"
    cases = {
        "mlp": Case(mlp, (3,), **vectors),
        "mlp-bn": Case(f"{mlp},critic_norm=batch", (3,), **vectors),
        "dcgan": dcgan(wide, side, images, plain),
        "dcgan-bn": dcgan(wide, side, images, "norm=batch,critic_norm=batch"),
        "dcgan-tanh": dcgan(wide, side, images, f"{plain},critic_activation=tanh"),
        "resnet": Case(f"resnet:width={narrow}", (3, side, side), images, 128),
    }
    every = tuple(PENALTIES)
    penalties = dict.fromkeys(
        ("mlp", "dcgan", "dcgan-bn", "resnet"), every if full else ("none", "js")
    )
    if name == "quick":
        penalties |= {"mlp": every, "dcgan": every}
    growth = {}
    if full:
        growth = {f"batch {b}": dcgan(64, 32, b, plain) for b in (16, 64, 256)}
        growth |= {f"side {s}": dcgan(32, s, 32, plain) for s in (16, 32, 64)}
        growth |= {f"width {w}": dcgan(w, 32, 64, plain) for w in (16, 32, 128)}
    return Scale(
        rounds={"tiny": 2, "quick": 5, "full": 9}[name],
        seconds={"tiny": 0.0, "quick": 0.4, "full": 0.5}[name],
        cases=cases,
        penalties=penalties,
        members={"tiny": (2,), "quick": (32,), "full": (2, 8, 32, 128)}[name],
        batches=(16,) if tiny else (64, 512),
        dirac=(10, 3, 3) if tiny else (10_000, 500, 1_000),
        compiled=() if tiny else ("mlp", "dcgan") if full else ("mlp",),
        growth=growth,
    )


def jobs(size: Scale) -> Iterator[Job]:
    """Yield everything that is timed, by name: case / penalty / what / way."""
    for name, case in size.cases.items():
        merges = name in ("dcgan", "resnet")
        layouts = ("plain", "channels_last") if merges else ("plain",)
        for player in PLAYERS if name in size.penalties else ():
            yield Job(
                f"{name}/-/forward/{player}",
                lambda c=case, p=player, y=layouts[-1]: passes(c, p, y),
            )
        if "bn" in name:
            for path in ("separate", "auto"):
                yield Job(f"{name}/js/gradient/{path}", lambda c=case, p=path: slope(c, "js", p))
        elif name != "resnet":
            yield Job(f"{name}/none/gradient/separate", lambda c=case: slope(c, "none", "separate"))
            yield Job(f"{name}/js/gradient/separate", lambda c=case: slope(c, "js", "separate"))
            for penalty in ("none", "js") if not merges else size.penalties[name]:
                able = ["joined"] + ["merged"] * (merges and penalty != "none")
                able += ["chain"] * (name == "mlp")
                for path in able:
                    way = f"{path}, channels_last" if merges else path
                    yield Job(
                        f"{name}/{penalty}/gradient/{way}",
                        lambda c=case, r=penalty, p=path, y=layouts[-1]: slope(c, r, p, y),
                    )
            if name == "dcgan-tanh":
                for path in ("differences", "one-sided"):
                    way = lambda c=case, p=path: slope(c, "js", p)  # noqa: E731
                    yield Job(f"{name}/js/gradient/{path}", way)
            if merges:
                yield Job(
                    f"{name}/js/gradient/separate, channels_last",
                    lambda c=case: slope(c, "js", "separate", "channels_last"),
                )
            if name in size.compiled:
                yield Job(
                    f"{name}/js/gradient/compiled",
                    lambda c=case, y=layouts[-1]: slope(c, "js", "compiled", y),
                )
        for penalty in size.penalties.get(name, ()):
            yield Job(
                f"{name}/{penalty}/iteration/textbook",
                lambda c=case, r=penalty: textbook(c, r).step,
            )
            yield Job(f"{name}/{penalty}/iteration/ours", lambda c=case, r=penalty: ours(c, r))
        if merges:
            yield Job(
                f"{name}/none/iteration/ours, plain layout",
                lambda c=case: ours(c, "none", layout="plain"),
            )
    yield from _savings(size)
    for what, case in size.growth.items():
        for penalty in ("none", "js"):
            yield Job(
                f"dcgan {what}/{penalty}/iteration/ours",
                lambda c=case, r=penalty: ours(c, r, layout="channels_last"),
            )
        yield Job(f"dcgan {what}/js/iteration/textbook", lambda c=case: textbook(c, "js").step)
    yield from _fleets(size)
    # As many as an evaluation takes, of the dimension of EfficientNet's features.
    points = (50, 8) if size.dirac[0] < 100 else (5000, 1280)
    for what in ("value", "interval"):
        make = lambda w=what: frechet(w == "interval", *points)  # noqa: E731
        yield Job(f"distance/-/frechet/{what}", make)
    trajectories, steps, few = size.dirac
    for way in ("eager", "compiled") if size.compiled else ("eager",):
        # A compiled simulation is for many steps: they pay for what is compiled at every start.
        length = steps * (8 if way == "compiled" else 1)
        together = lambda w=way, n=length: dirac(trajectories, n, w == "compiled")  # noqa: E731
        yield Job(f"dirac/r1/simulation/{way}", together, trajectories * length)
    for loop in (dirac_autograd, dirac_numpy, dirac_floats):
        alone = lambda f=loop: lambda: f(1.0, -1.0, gamma=0.5, lr=0.1, steps=few)  # noqa: E731
        yield Job(f"dirac/r1/simulation/loop, {loop.__name__.removeprefix('dirac_')}", alone, few)


def _savings(size: Scale) -> Iterator[Job]:
    """What is off by default, with JS."""
    case, lazy = size.cases["dcgan"], 4

    def four() -> Callable[[], Any]:
        step = ours(case, "js", penalty_every=lazy)
        return lambda: [step() for _ in range(lazy)]

    yield Job("dcgan/js/iteration/ours, lazy k=4", four, work=lazy)
    options: dict[str, dict[str, Any]] = {
        "share=true": {"share": True},
        "fused Adam": {"fused": True},
    }
    for name in ("dcgan", "mlp"):
        more: dict[str, dict[str, Any]] = (
            {"penalty_share=0.5": {"penalty_share": 0.5}, "bf16": {"bf16": True}}
            if name == "dcgan"
            else {}
        )
        if name in size.compiled:
            more["compiled"] = {"path": "compiled"}
        for label, settings in {**options, **more}.items():
            make = lambda c=size.cases[name], s=settings: ours(c, "js", **s)  # noqa: E731
            yield Job(f"{name}/js/iteration/ours, {label}", make)


def measured_alone(members: tuple[int, ...]) -> int:
    """Return how many GANs are trained one by one; per member, another number would change
    nothing."""
    return 32 if 32 in members else members[0]


def _fleets(size: Scale) -> Iterator[Job]:
    for batch in size.batches:
        case = size.cases["mlp"]._replace(batch=batch)
        for members in size.members:
            for way in (
                "one by one",
                "textbook, one by one",
                "eager",
                *(("compiled",) if size.compiled else ()),
            ):
                if not way.endswith("one by one") or members == measured_alone(size.members):
                    make = lambda c=case, m=members, w=way: fleet(c, m, w)  # noqa: E731
                    name = f"fleet of {members}, batch {batch}/js/iteration/{way}"
                    yield Job(name, make, members)
