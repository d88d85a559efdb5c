"""Batch normalisation that can be differentiated as often as one likes, and over processes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .errors import SteadyganError
from .ranks import together


class ExactBatchNorm(_BatchNorm):
    r"""Batch normalisation, :math:`\gamma (h - \bar h)/\sqrt{\mathrm{var}(h) + \epsilon} + \beta`.

    The same function as torch's, made of its elementary operations. torch's own (2.13) leaves terms
    out of its third derivative, silently, and a penalty on the critic's slope needs that where its
    gradient is differentiated once more: consensus, unrolled, the analysis.

    Reference: Ioffe and Szegedy 2015.
    """

    _fewest = 2
    """Values of each channel that a process must have."""

    @classmethod
    def replace(cls, *networks: nn.Module) -> bool:
        """Turn the batch normalisation of networks into this one, in place.

        Names, parameters and running averages stay. So does what a subclass makes of torch's
        ``super().forward``, in whose place this one stands.

        Returns:
            Whether there was any.

        Raises:
            SteadyganError: for a subclass that trains by a forward of its own without that.

        >>> net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> ExactBatchNorm.replace(net), list(net.state_dict())[-1]
        (True, '1.num_batches_tracked')
        """
        every = [module for network in networks for module in network.modules()]
        found = [module for module in every if isinstance(module, _BatchNorm)]
        for module in found:
            module.__class__ = cls._under(module)
        return bool(found)

    @classmethod
    def _under(cls, module: _BatchNorm) -> type[_BatchNorm]:
        """Return a module's class with this one in the place of torch's."""
        kind = type(module)
        if kind.__module__ in (_BatchNorm.__module__, __name__):
            return cls
        if issubclass(kind, cls):
            return kind
        if all(_goes_on(base) for base in kind.__mro__[: kind.__mro__.index(_BatchNorm)]):
            return type(kind.__name__, (kind, cls), {"__module__": kind.__module__})
        if module.training or module.running_mean is None:
            raise SteadyganError(
                f"{kind.__name__} has a forward of its own that does not call super().forward, and"
                " torch's batch normalisation is not enough here: penalties that are"
                " differentiated once more, many GANs at once and several processes need another"
                " one in its place. Let it call super().forward(x)"
            )
        return kind

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized rows (B, C, ...)."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        if input.numel() // input.shape[1] < self._fewest:
            raise SteadyganError(_TOO_FEW)
        x = input if input.dtype == torch.float64 else input.float()
        over, count = [0, *range(2, x.ndim)], x.new_tensor([x.numel() / x.shape[1]])
        sums = self._sum(torch.cat([x.sum(over), count]))
        n, shape = sums[-1].detach(), [1, -1, *[1] * (x.ndim - 2)]
        mean = sums[:-1] / n
        centred = x - mean.view(shape)
        var = self._sum(centred.square().sum(over)) / n
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = self.momentum  # None: the mean of all batches
            share = 1 / int(self.num_batches_tracked) if momentum is None else momentum
            for held, now in ((self.running_mean, mean), (self.running_var, var * n / (n - 1))):
                # vmap knows no lerp_
                held.mul_(1 - share).add_(now.detach().to(held.dtype), alpha=share)
        found = centred * (var + self.eps).rsqrt().view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take rows of any shape, as one class stands for all of torch's."""

    def _sum(self, mine: Tensor) -> Tensor:
        return mine


_TOO_FEW = (
    "batch normalisation needs at least two values of each channel while it trains, and had one:"
    " let batches be larger (--batch), or leave it out of the networks"
)


@contextmanager
def enough() -> Iterator[None]:
    """Say so where torch's own meets a batch that it cannot normalise."""
    try:
        yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise SteadyganError(_TOO_FEW) from error


def _goes_on(kind: type) -> bool:
    """Return whether a class has the forward of the next one, or calls it."""
    forward = vars(kind).get("forward")
    code = getattr(inspect.unwrap(forward), "__code__", None) if forward else None
    return forward is None or (code is not None and {"super", "forward"} <= {*code.co_names})


class WholeBatchNorm(ExactBatchNorm):
    """Batch normalisation by means and variances over the rows of all processes.

    What is differentiated is the sum of all processes' losses, each taking its own at the same
    time: their gradients, added up, are those of one process with all rows. torch's
    ``SyncBatchNorm`` has first derivatives only, and on GPUs alone.
    """

    _fewest = 1

    def _sum(self, mine: Tensor) -> Tensor:
        whole: Tensor = _Sum.apply(mine)  # type: ignore[no-untyped-call]
        return whole


class _Sum(torch.autograd.Function):
    """The sum of what the processes have, and of what their losses pull at it; at any order."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        whole = mine.clone(memory_format=torch.contiguous_format)
        with together():
            dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, pull: Tensor) -> Any:
        return _Sum.apply(pull)  # type: ignore[no-untyped-call]


__all__ = ["ExactBatchNorm", "WholeBatchNorm", "enough"]
