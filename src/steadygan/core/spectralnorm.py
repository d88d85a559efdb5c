"""Spectral normalisation that many networks at once can take."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import _SpectralNorm


class StackedSpectralNorm(_SpectralNorm):
    r"""Spectral normalisation, :math:`W / (u^\top W v)`, with torch's numbers to the bit.

    torch's own (2.13) writes its power iteration by ``out=``, which ``torch.vmap`` refuses.

    Reference: Miyato et al. 2018.
    """

    @classmethod
    def replace(cls, network: nn.Module) -> None:
        """Turn the spectral normalisation of a network into this one, in place.

        >>> from torch.nn.utils.parametrizations import spectral_norm
        >>> net = spectral_norm(nn.Linear(2, 3))
        >>> StackedSpectralNorm.replace(net)
        >>> type(net.parametrizations.weight[0]).__name__
        'StackedSpectralNorm'
        """
        for module in network.modules():
            if type(module) is _SpectralNorm:
                module.__class__ = cls

    @torch.no_grad()
    def _power_method(self, weight_mat: Tensor, n_power_iterations: int) -> None:
        for _ in range(n_power_iterations):
            self._u.copy_(F.normalize(torch.mv(weight_mat, self._v), dim=0, eps=self.eps))
            self._v.copy_(F.normalize(torch.mv(weight_mat.H, self._u), dim=0, eps=self.eps))
