"""A network whose normalisations are folded into its convolutions has the features that it had."""

import copy

import pytest
import torch

from steadygan.evaluation.extractors.effnet import fold


def test_folding_changes_nothing_but_rounding():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.normal_(norm.weight, 1, 0.2)
        torch.nn.init.normal_(norm.bias, 0, 0.2)
    folded = copy.deepcopy(network)
    fold(folded)
    assert len(norms) == 49
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        one, two = (net.extract_features(x).mean((2, 3)) for net in (network, folded))
    assert (one - two).norm() < 2e-6 * one.norm() and one.std() > 1e-3
