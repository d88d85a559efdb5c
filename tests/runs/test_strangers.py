"""A run folder by a stranger, with any value in any place, is refused with a sentence."""

import io
import json
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from steadygan.cli import main
from steadygan.core.errors import SteadyganError
from steadygan.problems.cache import cache_folder
from steadygan.runs import checkpoint
from steadygan.runs.reading import Run
from steadygan.runs.samples import read_samples

TINY = "--steps 2 --batch 2 --log-every 1 --evaluate-every 1 --checkpoint-every 1".split()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "run"
    network = ["--network", "mlp:width=4", "--optimizer", "adam:fused=true"]
    assert main(["train", "line2d", *network, *TINY, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def refused(argv, word, capsys):
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert word in said and "Traceback" not in said


CONFIG = [
    ("config.keep_checkpoints", [1, 2], "keep_checkpoints"),
    ("config.steps", "many", "steps"),
    ("config.steps", None, "does not say its steps"),
    ("config.device", {}, "device"),
    ("config.regularizer", [3], "regularizer"),
    ("config.ema", "often", "ema"),
    ("config.batch", True, "batch"),
    ("config.unheard_of", 1, "unheard_of"),
    ("config.seed", 10**400, "digits"),
    ("config", [], "config"),
    ("problem", {"name": ["line2d"]}, "problem"),
    ("problem.modes", "all", "modes"),
    ("event", [2**62], "event"),
    ("event", "2", "event"),
    ("classes", -1, "classes"),
    ("critic_gradient.path", ["merged"], "path"),
    ("critic_gradient", {}, "critic_gradient"),
    ("data", 3, "data"),
]


@pytest.mark.parametrize(("place", "value", "word"), CONFIG)
def test_a_configuration_without_sense_is_refused(run, capsys, place, value, word):
    path = run / "config.json"
    config = json.loads(path.read_text())
    *inner, last = place.split(".")
    node = config
    for name in inner:
        node = node[name]
    node[last] = value
    path.write_text(json.dumps(config))
    looks = ["sample", str(run)] if place == "event" else ["resume", str(run), "--steps", "3"]
    refused(looks, word, capsys)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("step", "2"),
        ("stream", 3),
        ("made", 3),
        ("optimizer/critic/groups", None),
        ("optimizer/critic/groups", [{"lr": "fast", "params": [0]}]),
        ("optimizer/critic/state/0", 7),
        ("optimizer/critic/state/0/exp_avg", "x"),
        ("optimizer/critic/state/0/exp_avg", torch.zeros(1)),
        ("optimizer/critic/state/0/step", torch.zeros(9)),
        ("memory", {"a": 1}),
    ],
)
def test_a_checkpoint_without_sense_is_refused(run, capsys, place, value):
    """Whoever writes it can make its checksum too; a fused kernel would write past a short one."""
    newest = checkpoint.latest(run)
    tree = checkpoint.load(newest)
    *inner, last = place.split("/")
    node = tree
    for name in inner:
        node = node[name]
    node[last] = value
    checkpoint.save(newest, tree)
    refused(["resume", str(run), "--steps", "3"], str(newest), capsys)


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("step", "sample {}"),
        ("step", "sample {} --ema sigma=0.15"),
        ("step", "train line2d --network mlp:width=4 --steps 2 --batch 2 --init {} --out other"),
        (
            "generator",
            "train line2d --network mlp:width=4 --steps 2 --batch 2 --init {} --out other",
        ),
        ("generator", "sample {}"),
        ("critic", "diagnose {}"),
        ("optimizer", "export {} --to exported"),
    ],
)
def test_a_checkpoint_without_a_part_is_refused(run, capsys, monkeypatch, missing, command):
    newest = checkpoint.latest(run)
    tree = checkpoint.load(newest)
    del tree[missing]
    checkpoint.save(newest, tree)
    monkeypatch.chdir(run.parent)
    refused(command.format(run).split(), f"{newest.name} does not fit", capsys)
    assert not (run.parent / "exported").exists()


@pytest.mark.parametrize("value", [10**400, [1, 2], "x", {"a": 1}], ids=repr)
def test_a_log_without_sense_is_refused(run, capsys, value):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "critic_loss": value}) + "\n")
    refused(["report", str(run)], "metrics.jsonl", capsys)


def test_a_step_is_no_number_beyond_what_counts(run, capsys):
    (run / "warnings.jsonl").write_text(json.dumps({"step": 2**70, "kind": "collapse"}) + "\n")
    refused(["report", str(run)], "warnings.jsonl", capsys)


@pytest.mark.parametrize(
    ("descr", "word"), [("<f4", "would unpack to 1 GiB"), ("|u1", "holds uint8")]
)
def test_samples_that_would_unpack_to_more_than_samples_take_are_not_unpacked(run, descr, word):
    path = run / "samples" / "step-00000002.npz"
    header = io.BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": (2**28 + 1, 1)}
    np.lib.format.write_array_header_1_0(header, about)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples.npy", header.getvalue() + bytes(9))
        archive.filelist[0].file_size = len(header.getvalue()) + 4 * (2**28 + 1)
    with pytest.raises(SteadyganError, match=f"{path.name}.*{word}.*remove the file"):
        read_samples(path)
    assert main(["report", str(run)]) == 0


def test_deep_json_in_a_checkpoint_is_refused(run):
    newest = checkpoint.latest(run)
    deep = "[" * 100_000
    header = json.dumps({"__metadata__": {"state": f'{{"step": {deep}'}}).encode()
    newest.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(SteadyganError, match="damaged"):
        checkpoint.load(newest)


def test_who_has_no_home_has_no_cache(monkeypatch):
    """As in a container, for a user without a name."""
    for name in ("HOME", "XDG_CACHE_HOME", "STEADYGAN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(NotADirectoryError):
        (cache_folder() / "images").mkdir(parents=True)


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "warnings.jsonl", "status.json"])
def test_nothing_is_written_through_a_link(run, tmp_path, name):
    """Which a stranger could have laid to any file of the reader."""
    dear = tmp_path / "dear"
    dear.write_text('{"step": 1}\n')
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(dear)
    main(["resume", str(run), "--steps", "3"])
    assert dear.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize("link", ["samples", "samples/real.png", "samples/step-00000009.png"])
def test_no_picture_of_the_readers_own_is_shown_for_a_link_to_it(run, tmp_path, link):
    (tmp_path / "mine").mkdir()
    for name in ("real", "step-00000009"):
        Image.new("RGB", (8, 8)).save(tmp_path / "mine" / f"{name}.png")
    shutil.rmtree(run / "samples")
    if link != "samples":
        (run / "samples").mkdir()
    (run / link).symlink_to(tmp_path / "mine" / link.removeprefix("samples").removeprefix("/"))
    found = Run.read(run)
    assert (found.real, found.samples) == (None, ())


@pytest.mark.parametrize(
    ("name", "argv", "status"),
    [
        ("metrics.jsonl", ["resume", "{}", "--steps", "3"], 2),
        ("checkpoints/step-00000002.safetensors", ["resume", "{}", "--steps", "3"], 2),
        ("checkpoints/step-00000002.safetensors", ["sample", "{}"], 0),
        ("samples/step-00000002.npz", ["report", "{}"], 0),
        ("evaluation.json", ["report", "{}"], 0),
        ("report.html", ["report", "{}"], 2),
    ],
)
def test_a_pipe_in_a_folder_keeps_nobody_waiting(run, capsys, name, argv, status):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert main([word.format(run) for word in argv]) == status
    assert (run / name).is_fifo()
    assert "no plain file" in capsys.readouterr().err or status == 0
