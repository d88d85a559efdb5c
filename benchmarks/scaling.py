"""What several processes gain: averaging against computing as measured, and a model beyond.

Run: OMP_NUM_THREADS=1 python benchmarks/scaling.py [--tiny] [--rounds N] -> benchmarks/scaling.json
and the tables of docs/many-machines.md on standard output. In every round the first of two gloo
processes makes an iteration of the whole batch, and one of half of it, while the other one waits;
then each makes one of half the batch, and they average. Ratios are taken within rounds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import measure
import numpy as np
import torch
import torch.distributed as dist
from page import table
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from work import ADAM, Case

from steadygan import average_gradients, build, critic_backward

CASES = {
    "DCGAN-32": Case("dcgan:norm=none,critic_norm=none", (3, 32, 32), 64, 128),
    "ResNet-64": Case("resnet", (3, 64, 64), 4, 128),
}
"""Networks as they come by default, with one penalty at real and generated samples (JS); batches
that a core is done with in seconds."""
TINY = {"DCGAN-32": Case("dcgan:width=4,norm=none,critic_norm=none", (3, 32, 32), 4, 8)}
PROCESSES = (1, 2, 4, 8)
MODELLED = 64
"""Rows of the batch that the model shares out (strong), and that each process has (weak)."""


PARTS = ("computing", "waiting", "averaging", "moving")
"""Of an iteration."""


class Machine(NamedTuple):
    """What the model takes for a machine.

    Args:
        flops: floating-point operations a second that a process reaches.
        launch: seconds that each operation takes at least.
        bandwidth: bytes a second that a process sends and receives at once.
        latency: seconds of each message.
    """

    flops: float
    launch: float
    bandwidth: float
    latency: float


H100 = Machine(flops=0.3 * 494.7e12, launch=5e-6, bandwidth=0.5 * 450e9, latency=20e-6)
INPUTS = {
    "flops": "30 % (assumed) of 494.7e12 a second, TF32 without sparsity (data sheet, SXM5)",
    "launch": "5 microseconds an operation, eager (assumed)",
    "bandwidth": "half (assumed) of 450e9 bytes a second each way, NVLink 4 (data sheet)",
    "latency": "20 microseconds an all-reduce (assumed)",
}


class Work(NamedTuple):
    """What one iteration is: operations a row, operations that are launched, bytes and messages."""

    flops_a_row: float
    launched: int
    bytes: int
    messages: int

    def computing(self, rows: float, machine: Machine) -> float:
        """Return the seconds of computing: what takes longer, the arithmetic or the launching."""
        return max(self.flops_a_row * rows / machine.flops, self.launched * machine.launch)

    def averaging(self, processes: int, machine: Machine) -> float:
        """Return the seconds of a ring's all-reduce, with nothing computed meanwhile."""
        if processes == 1:
            return 0.0
        sent = 2 * (processes - 1) / processes * self.bytes
        return self.messages * machine.latency + sent / machine.bandwidth

    def row(self, processes: int, machine: Machine) -> dict[str, float]:
        """Return the speed-up of a shared batch and the efficiency of one that grows."""
        averaging = self.averaging(processes, machine)
        whole = self.computing(MODELLED, machine)
        part = self.computing(MODELLED / processes, machine)
        return {
            "processes": processes,
            "computing_ms": 1e3 * part,
            "averaging_ms": 1e3 * averaging,
            "strong_speed_up": whole / (part + averaging),
            "weak_efficiency": whole / (whole + averaging),
        }


class Pair:
    """A critic and a generator that are trained with a part of a batch."""

    def __init__(self, case: Case) -> None:
        self.game = case.game("js")
        self.generator, self.critic = case.pair()
        make = build("optimizer", ADAM)
        self.optimizers = [make(net.parameters()) for net in self.networks]
        self.real = torch.rand(case.batch, *case.event) * 2 - 1
        self.latents = torch.randn(case.batch, case.latent)

    @property
    def networks(self) -> tuple[nn.Module, nn.Module]:
        """The two players."""
        return self.generator, self.critic

    def gradients(self, rows: int) -> None:
        """Find both players' gradients, as an iteration does, and average nothing."""
        real, z = self.real[:rows], self.latents[:rows]
        fake = self.generator(z)
        self.critic.zero_grad()
        critic_backward(self.game, self.critic, real, fake.detach())
        of_critic = [p.grad for p in self.critic.parameters()]
        self.generator.zero_grad()
        self.game.generator_loss(self.critic, None, fake).backward()
        for p, gradient in zip(self.critic.parameters(), of_critic, strict=True):
            p.grad = gradient

    def average(self) -> None:
        """Average both players' gradients."""
        for network in self.networks:
            average_gradients(network)

    def move(self) -> None:
        """Step both optimizers."""
        for optimizer in self.optimizers:
            optimizer.step()


class Counted(TorchDispatchMode):
    """Counts floating-point operations, and kernels: views and allocations launch none."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.launched = 0

    def __torch_dispatch__(
        self, f: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = f(*args, **(kwargs or {}))
        self.launched += not (f.is_view or "empty" in f.name() or "detach" in f.name())
        if f.overloadpacket in flop_registry:
            self.flops += flop_registry[f.overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def counted(case: Case) -> Work:
    """Return what one iteration of a case is."""
    pair, rows = Pair(case), min(case.batch, 4)
    pair.gradients(rows)  # decides on its path
    with Counted() as seen:
        pair.gradients(rows)
        pair.move()
    size = sum(p.numel() * p.element_size() for net in pair.networks for p in net.parameters())
    buckets = sum(
        -(-sum(p.numel() * p.element_size() for p in net.parameters()) // (25 * 2**20))
        for net in pair.networks
    )
    return Work(seen.flops / rows, seen.launched, size, buckets + 2)


def timed(task: Callable[[], Any]) -> float:
    """Return the seconds of a task by the clock, since waiting counts."""
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def process(rank: int, store: str, case: Case, rounds: int) -> None:
    """Be one of two processes; the first writes what was measured."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    pair, half, found = Pair(case), case.batch // 2, []

    def alone(rows: int) -> float:
        dist.barrier()

        def iteration() -> None:
            pair.gradients(rows)
            pair.move()

        seconds = timed(iteration) if rank == 0 else 0.0
        dist.barrier()
        return seconds

    def together() -> Tensor:
        dist.barrier()
        tasks = (lambda: pair.gradients(half), dist.barrier, pair.average, pair.move)
        return torch.tensor([timed(task) for task in tasks], dtype=torch.float64)

    for turn in range(rounds + 1):
        ours = {"whole": alone(case.batch), "half": alone(half)}
        both = [torch.empty(len(PARTS), dtype=torch.float64) for _ in range(2)]
        dist.all_gather(both, together())
        if turn:  # the first one warms up
            ours |= {"together": max(float(each.sum()) for each in both)}
            ours |= dict(zip(PARTS, torch.stack(both).mean(0).tolist(), strict=True))
            found.append(ours)
    if rank == 0:
        Path(f"{store}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def measured(case: Case, rounds: int) -> dict[str, Any]:
    """Return medians and quartiles of what two processes measured of a case."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        torch.multiprocessing.spawn(process, (store, case, rounds), nprocs=2)
        found = json.loads(Path(f"{store}.json").read_text())
    columns = {key: np.array([each[key] for each in found]) for key in found[0]}
    columns["strong_speed_up"] = columns["whole"] / columns["together"]
    columns["weak_efficiency"] = columns["half"] / columns["together"]
    columns["averaging_share"] = columns["averaging"] / columns["together"]
    return {
        key: [float(f"{q:.4g}") for q in np.quantile(values, (0.25, 0.5, 0.75))]
        for key, values in columns.items()
    }


def case_of(case: Case, rounds: int) -> dict[str, Any]:
    """Return what a case is, what was measured of it, and what the model says."""
    work, found = counted(case), measured(case, rounds)
    return {
        "network": case.network,
        "batch": case.batch,
        "work": work._asdict(),
        "measured": found,
        "h100": [work.row(n, H100) for n in PROCESSES],
    }


def tables(results: dict[str, Any]) -> str:
    """Return the tables of the page."""
    rows = []
    for name, each in results["cases"].items():
        found, work = each["measured"], each["work"]
        median = {key: f"{1e3 * values[1]:,.0f}" for key, values in found.items()}
        ratios = ("averaging_share", "strong_speed_up", "weak_efficiency")
        rows.append(
            [
                f"{name}, batch {each['batch']}",
                f"{work['bytes'] / 1e6:.1f} MB",
                *(median[key] for key in ("whole", "half", "computing", "averaging")),
                *("{1:.2f} [{0:.2f}, {2:.2f}]".format(*found[key]) for key in ratios),
            ]
        )
    heads = ["two processes", "averaged", "alone, ms", "half of it alone, ms"]
    heads += ["half beside the other, ms", "averaging, ms", "averaging's share"]
    heads += ["batch shared: speed-up", "half each: efficiency"]
    beyond = [
        [
            name,
            str(row["processes"]),
            f"{row['computing_ms']:.2f}",
            f"{row['averaging_ms']:.2f}",
            f"{row['strong_speed_up']:.2f}",
            f"{row['weak_efficiency']:.2f}",
        ]
        for name, each in results["cases"].items()
        for row in each["h100"]
    ]
    paper = ["on paper", "H100s", "computing, ms", "averaging, ms"]
    paper += [f"batch {MODELLED} shared: speed-up", f"{MODELLED} each: efficiency"]
    return f"{table(heads, rows)}\n\n{table(paper, beyond)}"


def main() -> None:
    """Measure, write and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="sizes without meaning")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    told = parser.parse_args()
    cases, rounds = (TINY, 1) if told.tiny else (CASES, told.rounds)
    with measure.environment(1, "tiny" if told.tiny else "whole") as here:
        here["rounds"] = rounds
        found = {name: case_of(case, rounds) for name, case in cases.items()}
    results = {"environment": here, "inputs": {"h100": INPUTS, "rows": MODELLED}, "cases": found}
    told.out.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))


if __name__ == "__main__":
    main()
