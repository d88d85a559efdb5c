"""Checkpoints: what is written is what is read, and no half of one ever replaces a whole one."""

import errno

import pytest
import torch

from steadygan import SteadyganError
from steadygan.runs import checkpoint, files


def tree():
    return {
        "step": 7,
        "weights": {
            "a.b": torch.tensor([[1.5, -2.0]], dtype=torch.float64),
            "flag": torch.tensor(True),
        },
        "optimizer": {
            "state": {"0": {"step": torch.tensor(3.0), "kind": "x"}},
            "groups": [{"lr": 0.1, "betas": (0.5, 0.9), "params": [0]}],
        },
        "empty": {},
        "rng": torch.Generator().manual_seed(3).get_state(),
    }


def test_a_tree_survives_with_shapes_and_dtypes(tmp_path):
    checkpoint.save(tmp_path / "c.safetensors", tree())
    back = checkpoint.load(tmp_path / "c.safetensors")
    assert back["step"] == 7 and back["empty"] == {}
    assert (
        torch.equal(back["weights"]["a.b"], tree()["weights"]["a.b"])
        and back["weights"]["a.b"].dtype == torch.float64
    )
    assert (
        back["optimizer"]["state"]["0"]["step"].shape == ()
        and back["optimizer"]["state"]["0"]["kind"] == "x"
    )
    assert back["optimizer"]["groups"][0]["betas"] == [0.5, 0.9]
    assert torch.equal(back["rng"], tree()["rng"])


def test_tensors_that_share_memory_are_written(tmp_path):
    x = torch.arange(6.0).view(2, 3)
    checkpoint.save(tmp_path / "c.safetensors", {"a": x, "b": x.T, "c": x[1]})
    back = checkpoint.load(tmp_path / "c.safetensors")
    assert torch.equal(back["b"], x.T) and torch.equal(back["c"], x[1])


@pytest.mark.parametrize("failing", ["open", "fsync", "replace"])
def test_a_full_disk_leaves_the_last_good_checkpoint_alone(tmp_path, monkeypatch, failing):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, tree())
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "open":
        monkeypatch.setattr(files, "open", full, raising=False)
    else:
        monkeypatch.setattr(files.os, failing, full)
    with pytest.raises(SteadyganError, match=r"No space left on device.*untouched"):
        checkpoint.save(path, tree() | {"step": 8})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x80\x04\x95pickle"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(SteadyganError, match="damaged"):
        checkpoint.load(tmp_path / "c.safetensors")


def test_a_safetensors_file_of_someone_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "c.safetensors")
    with pytest.raises(SteadyganError, match="no checkpoint of steadygan"):
        checkpoint.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, 0.01),
        lambda p: torch.optim.SGD(p, 0.1, 0.9),
        lambda p: torch.optim.RMSprop(p),
    ],
)
def test_an_optimizer_continues_as_if_it_had_not_stopped(tmp_path, make):
    def parameter():
        return torch.nn.Parameter(torch.tensor([1.0, -3.0]))

    def step(p, optimizer, k):
        for _ in range(k):
            p.grad = p.detach() * 2
            optimizer.step()

    whole = parameter()
    step(whole, make([whole]), 5)

    first = parameter()
    optimizer = make([first])
    step(first, optimizer, 2)
    checkpoint.save(
        tmp_path / "c.safetensors", {"p": first, "o": checkpoint.optimizer_state(optimizer)}
    )
    back = checkpoint.load(tmp_path / "c.safetensors")
    second = torch.nn.Parameter(back["p"])
    optimizer = make([second])
    checkpoint.restore_optimizer(optimizer, back["o"])
    step(second, optimizer, 3)
    assert torch.equal(second, whole)
