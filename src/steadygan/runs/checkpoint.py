"""Checkpoints: one safetensors file with every tensor, the rest as JSON in its header.

Never pickle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..core.errors import SteadyganError, foreign
from ..core.players import laid_out
from .files import whole
from .format import BEST, CHECKPOINTS, by_step

Tree = dict[str, Any]
"""Nested dictionaries with string keys whose leaves are tensors or JSON values."""


def save(path: Path, tree: Tree) -> None:
    """Write a tree.

    Raises:
        SteadyganError: Where that cannot be; an older file is then as it was.
    """
    tensors: dict[str, Tensor] = {}
    plain = _split(tree, "", tensors)
    # Not by safetensors' own way to a file, which is readable by its owner only, whatever the umask
    # says, and leaves its temporary file behind when the process is killed.
    state = json.dumps(plain)
    content = to_bytes(tensors, metadata={"state": state, "digest": _digest(state, tensors)})
    with whole(path) as file:
        file.write(content)


def load(path: Path) -> Tree:
    """Return what ``save`` wrote.

    Raises:
        SteadyganError: For a file that is missing or damaged, be it by a single bit.
    """
    with foreign(f"{path} cannot be read", "it is no checkpoint of steadygan, or it is damaged"):
        if path.exists() and not path.is_file():
            raise ValueError("it is no plain file")
        with safe_open(path, "pt") as file:
            about = file.metadata()
            tree: Tree = json.loads(about["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        # Files of version 0.1.0 have none.
        if about.get("digest") not in (None, _digest(about["state"], tensors)):
            raise ValueError("its content is not what was written, by its checksum")
        for key, value in tensors.items():
            *inner, last = key.split("/")
            node = tree
            for part in inner:
                node = node.setdefault(part, {})
            node[last] = value
    return tree


def fitting(path: Path, network: str | None) -> AbstractContextManager[None]:
    """Return a context in which a checkpoint of another network, or without sense, is refused."""
    trouble = f"The checkpoint {path} does not fit the network {network!r}"
    return foreign(trouble, "it is another run's, or damaged")


def _digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.blake2b(state.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def checkpoints(folder: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    return list(by_step(folder / CHECKPOINTS, ".safetensors").values())


def latest(folder: Path) -> Path:
    """Return a run's newest checkpoint.

    Raises:
        SteadyganError: Where there is none.
    """
    found = checkpoints(folder)
    if not found:
        raise SteadyganError(
            f"{folder} holds no checkpoint, so there is nothing to sample or to look at yet: start"
            f" it again with 'steadygan resume {folder}'."
        )
    return found[-1]


def best(folder: Path) -> Path:
    """Return where the checkpoint lies that measured best, be it there or not."""
    return folder / BEST


def named(folder: Path, name: Path | str | None = None) -> Path:
    """Return the checkpoint of a run that a name stands for.

    Args:
        folder: Of the run.
        name: ``best``, by the first of the metrics that the run took; ``last``, also None; a step;
            or the path of a file.

    Raises:
        SteadyganError: For a step or a best one that is not kept; which are is said.
    """
    spelled = str("last" if name is None else name)
    if spelled == "last":
        return latest(folder)
    if spelled == "best":
        if not best(folder).is_file():
            raise SteadyganError(
                f"{folder} keeps no best checkpoint: train with --metrics, such as fd, the first of"
                " which says which is best."
            )
        return best(folder)
    if spelled.isascii() and spelled.isdecimal():
        kept = by_step(folder / CHECKPOINTS, ".safetensors")
        if int(spelled) not in kept:
            raise SteadyganError(
                f"{folder} keeps no checkpoint of step {spelled}; those it keeps:"
                f" {', '.join(map(str, kept)) or 'none'}. train --keep-checkpoints keeps more."
            )
        return kept[int(spelled)]
    return Path(spelled)


def with_members(held: Tree, tree: Tree, members: Sequence[int]) -> Tree:
    """Return a checkpoint of many GANs, to sample from, in which some are those of a newer one.

    Args:
        held: Where the others are from. Its ``steps`` say of which step each of them is.
        tree: The newer one.
        members: Which are from it.
    """
    count = len(tree["alive"])
    steps = list(held.get("steps", [held["step"]] * count))
    newer = torch.zeros(count, dtype=torch.bool)
    newer[list(members)] = True
    for member in members:
        steps[member] = tree["step"]
    return {
        "step": tree["step"],
        "steps": steps,
        **{
            player: {
                key: torch.where(
                    newer.view(-1, *[1] * (t.ndim - 1)), t.cpu(), held[player][key].cpu()
                )
                for key, t in tree[player].items()
            }
            for player in ("generator", "critic", "ema")
        },
    }


def random_state(generators: Mapping[str, torch.Generator], device: str) -> Tree:
    """Return the state of every stream of randomness: a run's own and torch's global ones."""
    found = {name: generator.get_state() for name, generator in generators.items()} | {
        "global": torch.get_rng_state()
    }
    return found | ({"cuda": torch.cuda.get_rng_state(device)} if device.startswith("cuda") else {})


def restore_random(tree: Tree, generators: Mapping[str, torch.Generator], device: str) -> None:
    """Set every stream of randomness."""
    for name, generator in generators.items():
        if name in tree:
            generator.set_state(tree[name])
    torch.set_rng_state(tree["global"])
    if "cuda" in tree and device.startswith("cuda"):
        torch.cuda.set_rng_state(tree["cuda"], device)


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tree:
    """Return an optimizer's state as a tree."""
    state = optimizer.state_dict()
    return {
        "state": {str(k): v for k, v in state["state"].items()},
        "groups": state["param_groups"],
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tree: Mapping[str, Any]) -> None:
    """Set an optimizer's state from a tree; raises ValueError for what is none of its kind."""
    fresh = optimizer.state_dict()["param_groups"]
    for group, mine in zip(tree["groups"], fresh, strict=True):
        for key, value in group.items():
            if key not in mine or not _alike(value, mine[key]):
                raise ValueError(f"{key} is {value!r}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    fused = any(group.get("fused") for group in [*tree["groups"], *fresh])
    for number, state in tree["state"].items():
        for key, value in state.items():
            if fused:  # those kernels do not look, and would write past the end
                wanted = () if key == "step" else parameters[int(number)].shape
                fits = isinstance(value, Tensor) and value.shape == wanted
            else:
                fits = value is None or isinstance(value, Tensor | float | int)
            if not fits:
                raise ValueError(f"{key} of parameter {number} is none of it")
    optimizer.load_state_dict(
        {"state": {int(k): v for k, v in tree["state"].items()}, "param_groups": tree["groups"]}
    )
    for parameter, state in optimizer.state.items():
        # Files know no layouts, and a fused optimizer would pair the wrong elements.
        state.update(
            {
                key: laid_out(value, parameter)
                for key, value in state.items()
                if isinstance(value, Tensor)
            }
        )


def _alike(value: Any, mine: Any) -> bool:
    """Return whether a setting that was read is of the kind of one's own."""
    if isinstance(mine, bool) or mine is None or value is None:
        return value is None or isinstance(value, bool)
    if isinstance(mine, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(mine, list | tuple):
        return isinstance(value, list | tuple) and len(value) == len(mine)
    return type(value) is type(mine)


def _split(node: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> Tree:
    plain: Tree = {}
    for key, value in node.items():
        if "/" in key:
            raise SteadyganError(
                f"{key!r} cannot be saved: '/' separates the levels of a checkpoint; name it"
                " with a dot"
            )
        if isinstance(value, Tensor):
            # A copy: safetensors refuses tensors that share memory, such as a state dict's tied
            # weights.
            tensors[prefix + key] = value.detach().cpu().clone().contiguous()
        elif isinstance(value, Mapping):
            plain[key] = _split(value, f"{prefix}{key}/", tensors)
        else:
            plain[key] = value
    return plain
