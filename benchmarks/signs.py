"""How noisy are signs? Their relative deviation beside that of minibatches, for critics of digits.

Three critics after 250 steps against an autoencoder: a PatchGAN whose receptive fields overlap, one
whose few logits see nearly all of the picture, and one whose logits look at different places.

    nice -n 5 python benchmarks/signs.py

It prints the table of docs/derivations.md, section 7.
"""

from __future__ import annotations

import torch
from autoencoder import WIDTH, Autoencoder, patchgan
from sklearn.datasets import load_digits
from torch import Tensor, nn

from steadygan import Game, critic_backward

DRAWS = 40


def critics(w: int = WIDTH) -> dict[str, nn.Module]:
    """Return the three, by what their logits see."""
    near_global = nn.Sequential(
        nn.Conv2d(1, w, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, w, 3, 1, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(w, w, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(w, 1, 2),
    )  # fmt: skip
    disjoint = nn.Sequential(nn.Conv2d(1, w, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(w, 1, 1))
    return {"overlapping": patchgan(w), "near-global": near_global, "different places": disjoint}


def train(critic: nn.Module, digits: Tensor) -> None:
    """Let a critic with R1 and an autoencoder learn, each by its own loss."""
    auto = Autoencoder()
    both = [torch.optim.Adam(m.parameters(), 1e-3, betas=(0.5, 0.9)) for m in (auto, critic)]
    for _ in range(250):
        x = digits[torch.randint(len(digits), (32,))]
        y = auto(x)
        for optimizer in both:
            optimizer.zero_grad()
        (y - x).abs().mean().backward()
        critic_backward(Game("hinge", ["r1:gamma=1"]), critic, x, y)
        for optimizer in both:
            optimizer.step()


def deviation(critic: nn.Module, outputs: str, batches: list[Tensor]) -> float:
    """Return the relative standard deviation of R1 over batches (and over signs)."""
    game = Game("hinge", ["r1:gamma=1"], outputs=outputs)
    found = torch.tensor([game.critic_terms(critic, x, x).penalty.item() for x in batches])
    return (found.std() / found.mean()).item()


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    print("| logits | K | batch | minibatches | signs |\n|---|---|---|---|---|")
    for name, critic in critics().items():
        train(critic, digits)
        for size in (16, 64):
            drawn = [digits[torch.randint(len(digits), (size,))] for _ in range(DRAWS)]
            exact = deviation(critic, "each:exact=999", drawn)
            signs = deviation(critic, "each:exact=0", [drawn[0]] * DRAWS)
            count = critic(digits[:1]).numel()
            print(f"| {name} | {count} | {size} | {exact:.3f} | {signs:.3f} |", flush=True)


if __name__ == "__main__":
    main()
