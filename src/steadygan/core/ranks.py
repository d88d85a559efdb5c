"""Processes that share a batch out: their gradients averaged, each by its share of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .errors import SteadyganError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

BUCKET = 25 * 2**20
"""Bytes of gradients that go through the network at once, as many as torch itself takes."""


@contextmanager
def together() -> Iterator[None]:
    """Say in words that another process has gone, where torch says which socket was closed."""
    try:
        yield
    except RuntimeError as error:
        raise SteadyganError(
            "another process of this training has ended, or does not answer"
            f" ({str(error).splitlines()[0]}). Start all of them again from the newest checkpoint,"
            " as with torchrun and steadygan resume."
        ) from error


@together()
def average(
    gradients: Sequence[Tensor | None],
    parameters: Sequence[Tensor],
    group: ProcessGroup | None = None,
    weight: float = 1.0,
) -> list[Tensor | None]:
    r"""Return the mean of the processes' gradients, :math:`\sum_r w_r g_r / \sum_r w_r`.

    Written into the tensors given. Every process calls it, with as many gradients in one order;
    where one has None, which another has not, it counts as 0. In buckets of ``BUCKET`` bytes, all
    under way at once.

    Args:
        gradients: of this process, of the parameters' shapes.
        parameters: whose they are.
        group: of processes; None for all.
        weight: of this process, such as its number of rows.

    Raises:
        SteadyganError: for parameters that ``fully_shard`` spreads, whose gradients it averages.

    Reference: Li et al. 2020 (PyTorch Distributed), section 3.2.3, on buckets.
    """
    found = list(gradients)
    ranks = dist.get_world_size(group)
    if ranks == 1 or not found:
        return found
    if any(hasattr(p, "device_mesh") for p in parameters):
        raise SteadyganError(
            "fully_shard averages the gradients of the parameters that it spreads itself: leave"
            " reduce and average_gradients out."
        )
    # Weights and which gradients there are, in one small message.
    told = torch.tensor(
        [weight, *(g is not None for g in found)], dtype=torch.float64, device=parameters[0].device
    )
    dist.all_reduce(told, group=group)
    share = ranks * weight / told[0]  # 1 exactly where all weights are the same
    if any(g is None for g in found):
        used = (told[1:] > 0).tolist()
        found = [
            torch.zeros_like(p) if g is None and there else g
            for g, p, there in zip(found, parameters, used, strict=True)
        ]
    under_way = []
    for bucket in _buckets([g for g in found if g is not None]):
        flat = torch.cat([g.flatten() for g in bucket]).mul_(share).div_(ranks)
        under_way.append((bucket, flat, dist.all_reduce(flat, group=group, async_op=True)))
    for bucket, flat, work in under_way:
        work.wait()
        parts = flat.split([g.numel() for g in bucket])
        torch._foreach_copy_(bucket, [p.view_as(g) for p, g in zip(parts, bucket, strict=True)])
    return found


@torch.no_grad()
def average_gradients(
    parameters: nn.Module | Iterable[Tensor],
    group: ProcessGroup | None = None,
    rows: float = 1.0,
) -> None:
    """Average the ``.grad`` of a network over processes, as after ``generator_loss.backward()``.

    Args:
        parameters: the network, or parameters of one.
        group: of processes that share batches out; None for all.
        rows: of this process's part of the batch, where they differ.

    Raises:
        SteadyganError: where there is no process group; for what ``fully_shard`` spreads.
    """
    group_of(True)
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    wanted = [p for p in parameters if p.requires_grad]
    found = average([p.grad for p in wanted], wanted, group, rows)
    for p, gradient in zip(wanted, found, strict=True):
        p.grad = gradient


@together()
def gathered(rows: Tensor, ranks: ProcessGroup | bool) -> Tensor:
    """Return the rows of all processes, (B, ...) -> (sum of all B, ...), in the processes' order.

    This process's own carry their graph, and their derivative counts as often as they are fewer:
    the mean of the processes' gradients by their rows is then that of one process with all rows.

    Args:
        rows: of this process, of a type and shape that they have everywhere.
        ranks: the processes.
    """
    group = group_of(ranks)
    count, own = dist.get_world_size(group), rows.detach()
    sizes = [torch.empty(1, dtype=torch.int64, device=rows.device) for _ in range(count)]
    dist.all_gather(sizes, torch.full_like(sizes[0], len(rows)), group=group)
    each = [int(size) for size in sizes]
    # Some backends gather parts of one size only.
    padded = own.new_zeros(max(each), *rows.shape[1:])
    padded[: len(rows)] = own
    parts = [torch.empty_like(padded) for _ in range(count)]
    dist.all_gather(parts, padded, group=group)
    found = [part[:size] for part, size in zip(parts, each, strict=True)]
    found[dist.get_rank(group)] = own + (rows - own) * (sum(each) / len(rows))
    return torch.cat(found)


def group_of(reduce: ProcessGroup | bool) -> ProcessGroup | None:
    """Return the group that ``reduce`` means, True being the default one; None for no averaging."""
    if reduce is False:
        return None
    if not (dist.is_available() and dist.is_initialized()):
        raise SteadyganError(
            "there is no process group to average gradients over: start with torchrun and call"
            " torch.distributed.init_process_group() first, or leave reduce out."
        )
    return dist.group.WORLD if reduce is True else reduce


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Yield gradients in turn, those of one type and device together, up to ``BUCKET`` bytes."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    sizes: dict[tuple[torch.dtype, torch.device], int] = {}
    for gradient in gradients:
        kind, size = (gradient.dtype, gradient.device), gradient.numel() * gradient.element_size()
        if kinds.get(kind) and sizes[kind] + size > BUCKET:
            yield kinds.pop(kind)
            sizes[kind] = 0
        kinds.setdefault(kind, []).append(gradient)
        sizes[kind] = sizes.get(kind, 0) + size
    yield from kinds.values()


__all__ = ["average", "average_gradients", "gathered", "group_of", "together"]
