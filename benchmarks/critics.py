"""What ``auto`` takes for public critics, why, and its time beside a textbook's.

Run: python benchmarks/critics.py [--rounds N] -> benchmarks/critics.json and the table of
docs/fast-penalties.md (some minutes). The textbook passes real and generated samples through the
critic on their own, with a backward() of its own for the penalty, by double backward; of many
outputs it penalizes their sum, as public codes do, at the price of one gradient. Where ours
penalizes a few logits one by one, another row has a textbook that does so too. Ratios are of
process CPU time with one thread, taken within interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import measure
import page
import torch
from families import FAMILIES, MOST, Family
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from steadygan import Game, critic_backward
from steadygan.core.reading import read
from steadygan.experiments import timing

HERE = Path(__file__).parent
SECONDS = 0.05
GAMES = {"R1": ("r1:gamma=1", ("real",)), "JS": ("js:gamma=1", ("real", "fake"))}


def textbook(critic: Any, penalty: str, real: Tensor, fake: Tensor, each: bool = False) -> None:
    """Add the gradient of a critic's loss and penalty to its ``.grad``.

    each: whether every logit of one output is penalized, instead of the sum of all.
    """
    for name, x in (("real", real), ("fake", fake)):
        looked_at = name in GAMES[penalty][1]
        x = x.detach().requires_grad_(looked_at)
        outputs = read(critic(x), len(x)).logits
        loss = sum(F.binary_cross_entropy_with_logits(t, _label(t, name)) for t in outputs)
        loss.backward(retain_graph=looked_at)
        if not looked_at:
            continue
        summed = sum(t.flatten(1).sum(1) if t.ndim > 1 else t for t in outputs)
        seen = outputs[0].flatten(1).unbind(1) if each else [summed]
        total = torch.zeros(())
        for logit in seen:
            (slope,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
            size = slope.square().flatten(1).sum(1)
            if penalty == "JS":
                size = torch.sigmoid(-logit if name == "real" else logit).square() * size
            total = total + size.mean() / 2 / len(seen)
        total.backward()


def _label(t: Tensor, name: str) -> Tensor:
    return torch.full_like(t, float(name == "real"))


def compared(name: str, family: Family, rounds: int) -> dict[str, Any]:
    """Return which path each penalty takes, why, and auto / textbook."""
    torch.manual_seed(0)
    critic = family.make()
    real, fake = torch.randn(2, family.batch, *family.event)
    row: dict[str, Any] = {"critic": name, "batch": family.batch}
    jobs = []
    for penalty, (regularizer, _) in GAMES.items():
        game = Game("nonsaturating", regularizer)
        found = critic_backward(game, critic, real, fake)
        row[penalty] = {"path": found.path, "why": found.why}

        def ours(game: Game = game) -> None:
            critic_backward(game, critic, real, fake)

        def theirs(penalty: str = penalty) -> None:
            with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
                textbook(critic, penalty, real, fake, family.each)

        jobs += [timing.Job(f"{penalty}/ours", lambda f=ours: f)]
        jobs += [timing.Job(f"{penalty}/textbook", lambda f=theirs: f)]
    samples, failed = timing.rounds(jobs, rounds, SECONDS, lambda _: None)
    assert not failed, failed
    for penalty in GAMES:
        row[penalty]["ratio"] = timing.ratio(samples, f"{penalty}/ours", f"{penalty}/textbook")
        row[penalty]["promised"] = {"R1": MOST, "JS": family.js}[penalty]
    return row


def table(results: dict[str, Any]) -> str:
    """Return the rows in Markdown."""
    lines = ["| critic (batch) | R1 | JS | why not a faster path |", "| --- | --- | --- | --- |"]
    for row in results["rows"]:
        cells = [_cell(row[p]) for p in GAMES]
        why = dict.fromkeys(row[p]["why"] for p in GAMES if row[p]["why"])
        lines.append(
            f"| {row['critic']} ({row['batch']}) | {' | '.join(cells)} | {'; '.join(why)} |"
        )
    return "\n".join(lines)


def _cell(found: dict[str, Any]) -> str:
    ratio = f"{found['ratio']['median']:.2f}"
    missed = found["ratio"]["median"] > found["promised"]
    return f"{found['path']} {f'**{ratio}**' if missed else ratio}"


def main() -> None:
    """Measure, write the figures and fill in the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="critics whose name has this in it")
    parser.add_argument("--out", type=Path, default=HERE / "critics.json")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs/fast-penalties.md")
    given = parser.parse_args()
    with measure.environment(1, f"rounds {given.rounds}") as here:
        here |= {"rounds": given.rounds, "sample_seconds": SECONDS}
        rows = []
        for name, family in FAMILIES.items():
            if given.only in name:
                rows.append(compared(name, family, given.rounds))
                print(table({"rows": rows[-1:]}).splitlines()[-1], flush=True)
    results = {"environment": here, "rows": rows}
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    page.rewrite(given.page, results, {"environment": page.environment, "critics": table})


if __name__ == "__main__":
    main()
