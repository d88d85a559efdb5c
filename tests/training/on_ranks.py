"""What the tests of several processes train on each of them: run by torchrun, results by rank zero.

Usage: torchrun --nproc-per-node N on_ranks.py FOLDER [all]
"""

import atexit
import itertools
import os
import sys
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file

from steadygan import SteadyganError, build
from steadygan.core.auto import Auto
from steadygan.core.couples import couples_in
from steadygan.core.registry import names
from steadygan.training import Config, grid, resume, train, train_fleet
from steadygan.training.ranks import Ranks, here
from steadygan.training.single import Single

USUAL = {
    "network": "mlp:width=8",
    "optimizer": "sgd:lr=0.05",  # Adam makes a step of the rounding of a gradient that is 0
    "steps": 6,
    "precision": "float64",
    "device": "cpu",
    "batch": 13,  # no multiple of 2 or of 4
    "log_every": 2,
    "evaluate_every": 3,
    "checkpoint_every": 3,
}
PENALTIES = [
    "js:gamma=2",
    "r1:gamma=3",
    "r2",
    "r1r2",
    "gp0",
    "wgan-gp",
    "wgan-lp",
    "dragan",
    "lecam",
]
DYNAMICS = [
    "simultaneous",
    "alternating:critic_steps=2",
    "extragradient",
    "optimistic",
    "consensus:gamma=0.5",
]


def games(everything=False):
    """Yield names and configurations of games, those that look at means of the batch as well."""
    objectives = [o for o in names("objective") if o != "f-gan"]
    objectives += ["f-gan:divergence=kl", "f-gan:divergence=pearson"]
    chosen = list(itertools.product(objectives, ["none", *PENALTIES], DYNAMICS))
    if not everything:
        chosen = [
            *((o, "none", DYNAMICS[i % 5]) for i, o in enumerate(objectives)),
            *(("nonsaturating", r, DYNAMICS[i % 5]) for i, r in enumerate(PENALTIES)),
        ]
        chosen += [("nonsaturating", "js:gamma=auto", DYNAMICS[1])]
        chosen += [("hinge", "r1:gamma=auto,start=3", "alternating:order=generator-first")]
    for objective, penalty, dynamics in chosen:
        noise = "instance-noise:sigma=0.2" if dynamics == "simultaneous" else None
        try:
            config = Config(
                objective=objective,
                regularizer=() if penalty == "none" else (penalty,),
                smoothing=noise,
                dynamics=dynamics,
                **USUAL,
            ).resolve(build("problem", "ring2d"))
        except SteadyganError:
            continue  # no game: a penalty of a certain divergence
        if not (dynamics.startswith("consensus") and couples_in(config.game())):
            yield f"{objective} {penalty} {dynamics}", config


def normalized(everything=False):
    """Yield the same of games whose networks normalize by the means of the batch."""
    chosen = [
        ("nonsaturating", "js:gamma=2", "alternating:critic_steps=2"),
        ("relativistic-average", "dragan", "alternating:share=true"),
        ("hinge", "none", "extragradient"),
        ("wasserstein", "wgan-gp", "simultaneous"),
        ("least-squares", "r1:gamma=3", "consensus:gamma=0.5"),
    ]
    rate = USUAL["optimizer"]
    if everything:
        chosen += [("nonsaturating", r, d) for r in PENALTIES for d in DYNAMICS[:4]]
        # At the usual rate some fly apart: one process is then as far from itself after a nudge of
        # 1e-15 as several are from it.
        rate = "sgd:lr=0.0001"
    for objective, penalty, dynamics in chosen:
        config = Config(
            objective=objective,
            regularizer=() if penalty == "none" else (penalty,),
            dynamics=dynamics,
            **{**USUAL, "network": "mlp:width=8,norm=batch,critic_norm=batch", "optimizer": rate},
        )
        yield f"batch {objective} {penalty} {dynamics}", config.resolve(build("problem", "ring2d"))


def moved(config, ranks=Ranks()):
    """Return all parameters (n,) after three steps, and what was logged of them."""
    single = Single(build("problem", "ring2d"), config, ranks=ranks)
    with mock.patch.object(Auto, "INTERVAL", 2):  # so that gamma=auto moves
        for _ in range(3):
            single.advance()
    networks = single.generator, single.critic
    numbers = torch.tensor(list(single.rows()[0].values()), dtype=torch.float64)
    flat = [p.detach().flatten() for network in networks for p in network.parameters()]
    return torch.cat([*flat, numbers])


def many(folder, steps):
    """Train six GANs, of which the last three leave the finite numbers; return the outcome."""
    rates = "sgd:lr={0.05,1e300}"
    config = Config(**{**USUAL, "steps": steps, "optimizer": rates, "regularizer": ("lecam", "r1")})
    return train_fleet(build("problem", "ring2d"), grid(config, seeds=3), folder, show=False)


def leave(folder):
    """Write which threads this process has when its group has been destroyed, where Linux tells."""
    tasks = Path("/proc/self/task")
    names = [(task / "comm").read_text().strip() for task in tasks.glob("*")]
    (folder / f"threads-{os.getpid()}").write_text("\n".join(sorted(names)))


def main():
    folder = Path(sys.argv[1])
    atexit.register(leave, folder)  # runs last: the group registers itself later
    ranks = here()
    everything = "all" in sys.argv
    chosen = [*games(everything), *normalized(everything)]
    found = {name: moved(config, ranks) for name, config in chosen}
    train(build("problem", "ring2d"), Config(**USUAL), folder / "run", show=False)
    many(folder / "many", 6)
    resume(folder / "many", steps=9, show=False)
    if ranks.first:
        save_file(found, folder / "found.safetensors")


if __name__ == "__main__":
    main()
