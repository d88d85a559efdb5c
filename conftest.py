"""What every docstring example may take for granted."""

import signal
from collections.abc import Iterator

import pytest
import torch

import steadygan
from steadygan import core

# The networks of the tests are small: a second thread costs more than it brings, and one thread
# gives the same bits everywhere.
torch.set_num_threads(1)
# Started in the background of a script SIGINT is ignored, which runs respect, also where tests
# interrupt them.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own cache out of the tests, and the tests out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEADYGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict) -> None:
    """Offer torch and the public names to docstring examples, which start from one seed."""
    torch.manual_seed(0)
    doctest_namespace.update(
        {"torch": torch, **{n: getattr(m, n) for m in (core, steadygan) for n in m.__all__}}
    )
