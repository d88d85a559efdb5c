"""An autoencoder of digits with a PatchGAN: reconstruction at and after the critic's switch-on.

Two recipes from the same seeds, networks and batches. The plain one (taming-transformers): hinge
losses, the weight of VQGAN, critic and term switched on together. Ours: R1 of every logit, the
critic trained from the first step, the term raised by a ramp. One seed after the other:

    nice -n 5 python benchmarks/autoencoder.py --seeds 16

It writes benchmarks/autoencoder.json after each seed, and prints the table of
docs/cookbook/autoencoder.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from steadygan import Game, critic_backward
from steadygan.adversarial import Ramp, adaptive_weight

STEPS, START, RAMP, BATCH, WIDTH, LATENT = 500, 250, 125, 32, 16, 4
WEIGHT, GAMMA = 0.8, 1.0
OUT = Path(__file__).with_suffix(".json")


class Autoencoder(nn.Module):
    """Digits to ``LATENT`` numbers and back."""

    def __init__(self, w: int = WIDTH) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, w, 3, 2, 1), nn.SiLU(), nn.Conv2d(w, w, 3, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(4 * w, LATENT),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 4 * w), nn.SiLU(), nn.Unflatten(1, (w, 2, 2)),
            nn.Upsample(scale_factor=2), nn.Conv2d(w, w, 3, 1, 1), nn.SiLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(w, w, 3, 1, 1), nn.SiLU(),
            nn.Conv2d(w, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction."""
        found: Tensor = self.decoder(self.encoder(x))
        return found


def patchgan(w: int = WIDTH) -> nn.Module:
    """Return a critic with a map of 4 x 4 logits, without normalisation."""
    return nn.Sequential(
        nn.Conv2d(1, w, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, w, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(w, 1, 3, 1, 1),
    )  # fmt: skip


def sharpness(x: Tensor) -> float:
    """Return the mean size of the Laplacian."""
    stencil = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    return F.conv2d(x, stencil).abs().mean().item()


def run(seed: int, ours: bool, train: Tensor, test: Tensor) -> list[tuple[int, float, float]]:
    """Return (step, mean absolute error, sharpness over that of the data) of held-out digits."""
    torch.manual_seed(seed)
    auto, critic = Autoencoder(), patchgan()
    optimizer, optimizer_critic = (
        torch.optim.Adam(m.parameters(), 1e-3, betas=(0.5, 0.9)) for m in (auto, critic)
    )
    game = Game("hinge", [f"r1:gamma={GAMMA}"] if ours else [])
    ramp, rows = Ramp(START, RAMP if ours else 0), []
    for step in range(STEPS):
        x = train[torch.randint(len(train), (BATCH,))]
        y = auto(x)
        loss = rec = (y - x).abs().mean()
        if ramp(step):
            critic.requires_grad_(False)
            adversarial = game.generator_loss(critic, None, y)
            critic.requires_grad_(True)
            weight = adaptive_weight(rec, adversarial, auto.decoder[-1].weight)
            loss = rec + WEIGHT * ramp(step) * weight * adversarial
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if ours or step >= START:
            optimizer_critic.zero_grad()
            critic_backward(game, critic, x, y)
            optimizer_critic.step()
        if step + 1 >= START and (step + 1 - START) % 10 == 0:
            with torch.no_grad():
                made = auto(test)
            error = (made - test).abs().mean().item()
            rows.append((step + 1, error, sharpness(made) / sharpness(test)))
    return rows


def summary(rows: list[tuple[int, float, float]]) -> dict[str, float]:
    """Return what the table shows of one run."""
    errors = [error for _, error, _ in rows]
    return {
        "before": errors[0],
        "first 50 steps": statistics.mean(errors[1:6]),
        "worst": max(errors[1:]),
        "last 50 steps": statistics.mean(errors[-5:]),
        "sharpness before": rows[0][2],
        "sharpness, last 50 steps": statistics.mean(sharp for *_, sharp in rows[-5:]),
    }


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Return mean and standard deviation over seeds, a line for each figure."""
    lines = ["| | plain | ours | ours lower in |", "|---|---|---|---|"]
    for key in results["plain"][0]:
        columns = [[r[key] for r in results[kind]] for kind in ("plain", "ours")]
        cells = [f"{statistics.mean(c):.3f} ± {statistics.stdev(c):.3f}" for c in columns]
        less = sum(b < a for a, b in zip(*columns, strict=True))
        lines.append(f"| {key} | {cells[0]} | {cells[1]} | {less} of {len(columns[0])} |")
    return "\n".join(lines)


def main() -> None:
    """Run the seeds that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=16)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    digits = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    digits = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))]
    results: dict[str, list[dict[str, float]]] = {"plain": [], "ours": []}
    started = time.process_time()
    for seed in range(seeds):
        for kind, found in results.items():
            found.append(summary(run(seed, kind == "ours", digits[:1400], digits[1400:])))
        environment = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": 1,
            "cpu_seconds": round(time.process_time() - started),
        }
        names = ("STEPS", "START", "RAMP", "BATCH", "WIDTH", "LATENT", "WEIGHT", "GAMMA")
        settings = {name.lower(): globals()[name] for name in names}
        whole = {"environment": environment, "settings": settings, "results": results}
        OUT.write_text(json.dumps(whole, indent=1) + "\n")
        print(seed, f"{environment['cpu_seconds']} s", flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
