"""An exported folder: for torch alone, for steadygan, for the Hub; and nothing else of the run."""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
import yaml

from hub import hub
from steadygan import load_generator
from steadygan.cli import main
from steadygan.core import SteadyganError
from steadygan.evaluation import evaluate
from steadygan.export import card, export, program
from steadygan.runs import checkpoint, exported

SMALL = "--batch 8 --steps 2 --ema 0.5 --checkpoint-every 1 --out"


def steadygan(line, *more):
    return main([*line.split(), *map(str, more)])


def train(line, out):
    assert steadygan(f"train {line} {SMALL}", out) == 0
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    digits = "images --data digits --resolution 8 --channels 1 --conditional --no-flip"
    out = tmp_path_factory.mktemp("runs") / "digits"
    network = "--network dcgan:width=4 --regularizer r1:gamma=10"
    train(f"{digits} {network} --metrics fd --features pixels --metrics-samples 40", out)
    measured = "--data digits --features pixels --samples 40 --metrics fd --checkpoints best"
    assert steadygan("evaluate", out, *measured.split()) == 0
    return out


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "gan"
    more = "--checkpoint best --format torch-export --license cc-by-4.0"
    assert steadygan("export", run, "--to", out, *more.split()) == 0
    return out


def inputs(n=6, latent=128, classes=10):
    z = torch.randn(n, latent, generator=torch.Generator().manual_seed(3))
    return (z, torch.arange(n) % classes) if classes else (z,)


def own_loader(folder):
    spec = importlib.util.spec_from_file_location("load", folder / exported.LOADER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


@torch.no_grad()
def made(generator, given):
    return generator(*given)


ALONE = """
import importlib.abc, json, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("steadygan", "safetensors", "huggingface_hub"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import torch
from load import load
G = load()
z = torch.randn(6, G.latent, generator=torch.Generator().manual_seed(3))
x = G(z, torch.arange(6) % G.classes)
x.sum().backward()
assert all(p.grad is not None for p in G.parameters())
print(json.dumps([x.tolist(), sorted(G.state_dict()), G.class_names, G.event]))
"""


def test_the_loader_makes_the_same_samples_with_torch_alone(run, folder):
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True, check=True
    )
    x, names, classes, event = json.loads(done.stdout)
    ours = load_generator(run, "best")
    assert (torch.tensor(x) - made(ours, inputs())).abs().max() < 1e-6
    assert (
        torch.tensor(x) - made(load_generator(run, "best", averaged=False), inputs())
    ).abs().max() > 1e-4
    assert set(names) <= {*ours.state_dict()} and (classes, event) == ([*"0123456789"], [1, 8, 8])
    text = (folder / exported.LOADER).read_text()
    loader = text.partition("def network")[0].partition('"""\n\n')[2]
    assert sum(map(bool, loader.splitlines())) <= 45 and "pickle" not in text


def test_the_same_folder_is_read_by_steadygan(run, folder, tmp_path):
    for averaged in (True, False):
        found = load_generator(folder, averaged=averaged)
        there = load_generator(run, "best", averaged=averaged).state_dict()
        assert (found.latent, found.classes, found.training) == (128, 10, False)
        assert all(torch.equal(v, there[k]) for k, v in found.state_dict().items())
    kept = checkpoint.load(checkpoint.best(run))["optimizer"]
    held = checkpoint.load(folder / exported.OPTIMIZERS)
    momenta = (each["generator"]["state"]["0"]["exp_avg"] for each in (kept, held))
    assert torch.equal(*momenta)
    for where in (run, folder):
        more = ("--seeds", "0-3", "--class", "7", "--out", tmp_path / f"{where.name}.npz")
        best = ("--checkpoint", "best") if where is run else ()
        assert steadygan("sample", where, *more, *best) == 0
    assert (tmp_path / "gan.npz").read_bytes() == (tmp_path / "digits.npz").read_bytes()
    asked = {"data": "digits", "metrics": "fd", "features": "pixels", "samples": 40}
    (there,), (here,) = evaluate([run], checkpoints="best", **asked), evaluate([folder], **asked)
    assert there.numbers == here.numbers and not (folder / "evaluation.json").exists()


def test_a_program_of_torch_export_makes_them_too_and_holds_no_pickle(run, folder):
    program = torch.export.load(folder / exported.PROGRAM).module()
    found = made(program, inputs())
    assert (found - made(load_generator(run, "best"), inputs())).abs().max() < 1e-6
    with zipfile.ZipFile(folder / exported.PROGRAM) as held:
        pickled = [i for i in held.infolist() if i.filename.endswith((".pt", ".pkl"))]
    assert not any(each.file_size for each in pickled)


@pytest.mark.parametrize(
    ("line", "latent"),
    [
        (
            "images --data digits --resolution 8 --channels 1 --no-flip --network r3gan:width=16",
            128,
        ),
        ("ring2d --network mlp:width=4,norm=batch --latent-distribution uniform --latent 3", 3),
        ("dirac", 1),
    ],
)
def test_every_network_is_written_down(tmp_path, line, latent):
    run = train(line, tmp_path / "run")
    export(run, tmp_path / "gan")
    given = inputs(5, latent, 0)
    expected = made(load_generator(run), given)
    assert (made(own_loader(tmp_path / "gan"), given) - expected).abs().max() < 1e-6
    text = (tmp_path / "gan" / exported.CARD).read_text()
    assert ("torch.rand(4, 3) * 2 - 1" in text) == ("uniform" in line)
    images = line.startswith("images")
    assert (tmp_path / "gan" / exported.PICTURE).exists() == images
    data = ("--data", "digits") if images else ()
    assert steadygan("crosstest", run, tmp_path / "gan", "--samples", "40", *data) == 0
    assert (run / "crosstest.json").exists() and not (tmp_path / "gan/crosstest.json").exists()


def test_the_card_says_what_a_reader_must_know(run, folder):
    text = (folder / exported.CARD).read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["license"] == "cc-by-4.0"
    numbers = json.loads((run / "evaluation.json").read_text())["evaluations"][0]["numbers"]["fd"]
    interval = f"{numbers['value']:.4g} [{numbers['low']:.4g}, {numbers['high']:.4g}]"
    for said in (
        interval,
        "the best by fd",
        "one half* of E‖∇D‖²",
        "5 in LMescheder/GAN_stability, reg_param",
        "## Limits",
        "1,797",
        'load_generator("hub:USER/NAME")',
    ):
        assert said in body, said
    assert "| &lt;b&gt;\\|x | 1 |" in card._data({"problem": {"name": "ring2d", "<b>|x": 1}})
    assert card._safe("<b>a|b\n`c`") == "&lt;b&gt;a\\|b \\`c\\`"


@pytest.mark.parametrize(
    ("features", "public"),
    [
        ("/home/me/secret/mine.py:f", "mine.py:f"),
        ("inception-2015:weights=/home/me/secret/fid.pt", "inception-2015:weights=fid.pt"),
    ],
)
def test_where_files_lay_is_nobodys_business(run, tmp_path, features, public):
    copy = shutil.copytree(run, tmp_path / "copy")
    about = json.loads((copy / "config.json").read_text())
    about["problem"]["data"] = about["config"]["metrics_data"] = "/home/me/secret/digits.zip"
    about["config"]["features"] = features
    about["command"] = ["train", "/home/me/secret"]
    (copy / "config.json").write_text(json.dumps(about))
    export(copy, tmp_path / "gan")
    for path in (tmp_path / "gan").iterdir():
        assert b"secret" not in path.read_bytes(), path.name
    said = (tmp_path / "gan" / exported.CARD).read_text()
    assert "digits.zip" in said and f"features {public}" in said


def test_it_is_written_whole_or_not_at_all(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "poem.txt").write_text("dear")
    assert steadygan("export", run, "--to", tmp_path / "mine") == 2
    assert "exists and is not empty" in capsys.readouterr().err

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(program, "traced", fails)
    assert steadygan("export", run, "--to", tmp_path / "new") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def damage(folder, tmp_path, **more):
    copy = shutil.copytree(folder, tmp_path / "copy")
    about = json.loads((copy / exported.ABOUT).read_text())
    about["config"] |= more
    (copy / exported.ABOUT).write_text(json.dumps(about))
    return copy


def test_nothing_that_lies_in_a_folder_is_run(folder, tmp_path):
    copy = damage(folder, tmp_path)
    (copy / exported.LOADER).write_text("raise SystemExit('run')")
    (copy / "steadygan.py").write_text("raise SystemExit('run')")
    load_generator(copy)
    for network in ("load.py:network", "os.system", "mlp:width=4"):
        shutil.rmtree(copy)
        with pytest.raises(SteadyganError):
            load_generator(damage(folder, tmp_path, network=network))
    shutil.rmtree(copy)
    copy = damage(folder, tmp_path)
    weights = bytearray((copy / exported.GENERATOR).read_bytes())
    weights[-3] ^= 16
    (copy / exported.GENERATOR).write_bytes(weights)
    with pytest.raises(SteadyganError, match="checksum"):
        load_generator(copy)
    with pytest.raises(SteadyganError, match="no other checkpoints"):
        load_generator(folder, "best")


# In a process of its own: huggingface_hub reads its surroundings when it is imported.
THERE_AND_BACK = """
import sys, torch
from steadygan import load_generator
from steadygan.cli import main
folder, back = sys.argv[1:]
assert main(["push", folder, "me/gan", "--private"]) == 0
assert main(["sample", "hub:me/gan", "--seeds", "0-3", "--out", back]) == 0
assert main(["sample", "hub:me/nothing", "--out", back]) == 2
"""


def test_a_folder_goes_to_the_hub_and_comes_back(folder, tmp_path, capsys):
    assert steadygan("push", folder, "me/gan", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "me/gan, public" in shown and "generator.safetensors" in shown
    other = folder / "evaluation.json"
    other.write_text("what else lies there stays there")
    with hub() as (address, held):
        own = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_nobodymaysee"}
        words = [sys.executable, "-c", THERE_AND_BACK, str(folder), str(tmp_path / "back.npz")]
        done = subprocess.run(words, env=os.environ | own, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    other.unlink()
    sent = held.models["me/gan"]
    assert sent == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "me/gan" in held.private and "Bearer hf_nobodymaysee" in {who for *_, who in held.asked}
    fetched = {path.rpartition("/")[2] for how, path, _ in held.asked if "/resolve/" in path}
    assert fetched == {exported.ABOUT, exported.GENERATOR, exported.CRITIC}
    assert address in done.stdout and "could not be fetched" in done.stderr
    assert "nobodymaysee" not in done.stdout + done.stderr
    assert steadygan("sample", folder, "--seeds", "0-3", "--out", tmp_path / "here.npz") == 0
    assert (tmp_path / "here.npz").read_bytes() == (tmp_path / "back.npz").read_bytes()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("push RUN me/gan", "no exported folder"),
        ("push DIR gan", "is called USER/NAME"),
        ("export DIR --to x", "is exported already"),
        ("export RUN --to x --checkpoint 9", "keeps no checkpoint of step 9"),
    ],
)
def test_what_makes_no_sense_is_refused(run, folder, tmp_path, monkeypatch, capsys, line, why):
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(run), "DIR": str(folder)}
    assert main([places.get(word, word) for word in line.split()]) == 2
    assert why in capsys.readouterr().err and not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    out = tmp_path_factory.mktemp("many") / "rings"
    line = "train ring2d --seeds 2 --network mlp:width=4 --metrics energy --metrics-samples 20"
    assert steadygan(f"{line} {SMALL}", out) == 0
    warned = [(0, "collapse"), (1, "critic-won"), (1, "gamma-moved"), (11, "mode-loss")]
    rows = [{"step": 1, "kind": k, "message": f"member {i}: so it is"} for i, k in warned]
    (out / "warnings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return out


def test_one_of_many_is_exported_without_the_optimizers_that_all_share(many, tmp_path, capsys):
    assert steadygan("export", many, "--to", tmp_path / "gan", "--member", "1") == 0
    assert "optimizers" in capsys.readouterr().out
    given = inputs(4, load_generator(many, member=1).latent, 0)
    found = made(own_loader(tmp_path / "gan"), given)
    assert torch.allclose(found, made(load_generator(many, member=1), given), atol=1e-6)
    assert not torch.allclose(found, made(load_generator(many, member=0), given), atol=1e-3)


def test_one_of_many_has_its_own_unaveraged_generator_too(many, tmp_path):
    export(many, tmp_path / "gan", member=1)
    given = inputs(4, load_generator(many, member=1).latent, 0)
    bare, kept = (made(load_generator(tmp_path / "gan", averaged=a), given) for a in (False, True))
    assert torch.equal(bare, made(load_generator(many, member=1, averaged=False), given))
    assert not torch.allclose(bare, kept, atol=1e-5)
    (tmp_path / "gan" / exported.UNAVERAGED).unlink()
    with pytest.raises(SteadyganError, match=r"moving average .* export the run again"):
        load_generator(tmp_path / "gan", averaged=False)


def test_the_card_of_one_of_many_is_about_that_one(many, tmp_path):
    export(many, tmp_path / "gan", member=1)
    text = (tmp_path / "gan" / exported.CARD).read_text()
    row = json.loads((many / "metrics.jsonl").read_text().splitlines()[-1])
    value, (low, high) = (row[held]["energy"][1] for held in ("metrics", "intervals"))
    assert f"| energy | {value:.4g} [{low:.4g}, {high:.4g}] | while it trained |" in text
    assert "warned of: critic-won (1 times)." in text


@pytest.mark.slow
def test_onnx_makes_the_same_samples(run, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    notes = export(run, tmp_path / "gan", formats=["onnx"])
    assert "onnxruntime's samples are within" in notes[-1]
    session = onnxruntime.InferenceSession(str(tmp_path / "gan" / exported.ONNX))
    given = inputs(3)
    names = [each.name for each in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (x.numpy() for x in given), strict=True)))
    apart = (torch.from_numpy(found) - made(load_generator(run), given)).abs().max()
    assert apart < 1e-4 and not math.isnan(apart)
