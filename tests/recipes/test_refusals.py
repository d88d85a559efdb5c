"""Every command against every kind of bad input: exit status 2, a sentence, no traceback, and
nothing left behind."""

import shutil

import numpy as np
import pytest

from steadygan.cli import main

TINY = "--steps 2 --batch 2 --network mlp:width=4 --resolution 8".split()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    pixels = np.random.default_rng(0).integers(0, 255, (48, 8, 8, 1), dtype=np.uint8)
    np.savez(place / "data.npz", x=pixels)
    for name in ("run", "other"):
        argv = ["train", "images", "--data", str(place / "data.npz"), *TINY]
        assert main([*argv, "--out", str(place / name)]) == 0
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    monkeypatch.setenv("STEADYGAN_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "p"
    (here / "file").write_text("in the way")
    (here / "empty").mkdir()
    for name, text in FILES.items():
        (here / name).write_text(text)
    damaged = here / "damaged"
    shutil.copytree(here / "run", damaged)
    (damaged / "config.json").write_text("{")
    torn = here / "torn"
    shutil.copytree(here / "run", torn)
    for path in (torn / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    return here


READS = {
    "resume": "resume {} --steps 4",
    "sample": "sample {}",
    "report": "report {}",
    "evaluate": "evaluate {} --data data.npz --samples 24 --features pixels",
    "crosstest": "crosstest {} other --data data.npz --samples 24",
    "diagnose": "diagnose {}",
}
BAD_RUNS = ["nowhere", "empty", "file", "damaged", "torn"]
# Half of a checkpoint does not keep a report from showing the rest.
FINE = {("report", "torn")}

FILES = {
    "name.yaml": "problem: ring2d\nregularzer: r1\n",
    "number.yaml": "steps: many\n",
    "spec.yaml": "problem: ring2d\nregularizer: r11:gamma=1\n",
    "alias.yaml": "problem: &a ring2d\nnetwork: *a\n",
    "tag.yaml": "problem: !!python/name:os.system ring2d\n",
    "code.yaml": "problem: ring2d\nimport: mine.py\n",
    "code2.yaml": "problem: ring2d\nfeatures: mine.py:f\n",
    "code3.yaml": "problem: ring2d\nfeatures: [pixels, mine.py:f]\nmetrics: fd\n",
    "code4.yaml": "problem: ring2d\nfeatures: '{mine.py:f,pixels}'\nmetrics: fd\n",
    "list.yaml": "problem: ring2d\nsteps: [1, 2]\n",
    "nothing.yaml": "problem: ring2d\nbatch: []\n",
    "binary.yaml": "problem: ring\0002d\n",
    "deep.yaml": "[" * 20_000,
    "both.yaml": "problem: [dirac, ring2d]\nsteps: 2\nbatch: 2\n",
    "wrong.yaml": "problem: dirac\nobjective: [minimax, wgan]\n",
    "sweep.yaml": "problem: dirac\nsteps: [2, 3]\nbatch: 2\n",
    "range.yaml": "problem: dirac\nregularizer: 'r1:gamma={1..9}'\n",
    "mapping.yaml": "problem: dirac\nbatch: {1..9}\n",
    "slurm.yaml": "cores: 1\nmemory: 1GB\nquueue: a\n",
    "bare.yaml": "jobs: 2\n",
    "twice.yaml": "steps: 1\nsteps: 2\n",
}

BAD_VALUES = {
    # files of settings
    "validate name.yaml": "line 2: there is no option 'regularzer'; nearest: regularizer",
    "validate number.yaml": "line 1: steps takes a whole number",
    "validate spec.yaml": "line 2: Unknown regularizer 'r11'. Available, nearest first: r1",
    "validate alias.yaml": "line 1: anchors",
    "validate tag.yaml": "the tag",
    "train --config list.yaml": "an axis of 'steadygan sweep'",
    "validate wrong.yaml": "objective: wgan: Unknown objective 'wgan'",
    "validate deep.yaml": "no more",
    "validate nowhere.yaml": "nowhere.yaml",
    "train --config twice.yaml": "line 2: steps stands in line 1",
    "train --config code.yaml": "--import",
    "train --config code2.yaml": "--features mine.py:f",
    "train --config damaged": "damaged",
    "train": "PROBLEM",
    "validate binary.yaml": "special characters are not allowed",
    # sweeps
    "sweep nowhere.yaml": "nowhere.yaml",
    "sweep name.yaml": "line 2: there is no option 'regularzer'",
    "sweep range.yaml": "--points N",
    "sweep mapping.yaml": "line 2: batch takes a value or a list of values",
    "sweep sweep.yaml --steps many": "--steps: steps takes a whole number",
    "sweep sweep.yaml --steps": "--steps needs a value",
    "sweep sweep.yaml --no-augment x": "no option '--no-augment'",
    "sweep sweep.yaml --no-flip=true": "no option '--no-flip'",
    "sweep nothing.yaml": "batch is a list of nothing",
    "sweep nothing.yaml --points 4": "batch is a list of nothing",
    "sweep code3.yaml": "line 2: a file does not name code",
    "sweep code4.yaml": "line 2: a file does not name code",
    "validate code4.yaml": "line 2: a file does not name code",
    "sweep sweep.yaml --optimizer adam:lr={-1,1}": "lr",
    "sweep sweep.yaml --halving 3": "--by METRIC",
    "sweep sweep.yaml --halving 2 --by distance --out s": "steps and evaluate-every",
    "sweep sweep.yaml --halving 2 --by sw1": "the run 2-seed=0 will have distance, radius",
    "sweep sweep.yaml --by sw1": "will have distance, radius",
    "sweep both.yaml --halving 2 --by sw1": "will have distance, radius",
    "sweep sweep.yaml --by theta": "such as sw1, or fd",
    "sweep sweep.yaml --draw sobol": "--points N",
    "sweep sweep.yaml --points 0": "--points must be at least 1",
    "sweep sweep.yaml --workers 0": "--workers",
    "sweep sweep.yaml --init run": "init",
    "sweep sweep.yaml --slurm slurm.yaml --dry-run": "line 3: there is no option 'quueue'",
    "sweep sweep.yaml --slurm bare.yaml --dry-run": "cores and memory",
    "sweep sweep.yaml --points 2 --draw-seed -1 --batch {1..9}": "--draw-seed must be",
    "sweep sweep.yaml --slurm bare.yaml --scheduler tcp://a:1": "two places",
    "sweep sweep.yaml --scheduler nonsense://a:1": "scheduler",
    # tables
    "table empty": "empty",
    "table nowhere": "nowhere",
    "table damaged": "damaged",
    "table run --csv --json": "two formats",
    "table run --out x.csv": "--csv",
    "table run --csv --out file/x.csv": "file",
    # what a training made is not written over
    "report run --out run/config.json": "made by its training",
    "sample run --out run/samples/real.png": "made by its training",
    "diagnose run --out run/metrics.jsonl": "made by its training",
    "crosstest run run --picture run/samples/real.png": "made by its training",
    "analyze dirac --plot run/samples/real.png": "made by its training",
    # impossible values
    "train images --data data.npz --resolution 8 --batch 0": "batch",
    "train images --data data.npz --resolution 8 --steps -3": "steps",
    "train images --data data.npz --resolution 7 --network dcgan": "7",
    "train images --data data.npz --resolution 8 --network mlp:width=-4": "width",
    "train images --data data.npz --resolution 8 --device tpu9": "device",
    "train images --data data.npz --resolution 8 --regularizer r1:gamma=nan": "gamma",
    "train images --data data.npz --resolution 8 --optimizer adam:lr=-1": "lr",
    "train images --data data.npz --resolution 8 --ema 1.5": "ema",
    "train images --data nowhere.zip --resolution 8": "nowhere.zip",
    "train images --data file --resolution 8": "file",
    "train images --data empty --resolution 8": "empty",
    "train images --data data.npz --resolution 8 --init other --network mlp:width=5": "network",
    "train images --data data.npz --resolution 8 --network mlp:width=1000000000": "GiB",
    "train dirac --batch 99999999999999 --out big": "not enough memory",
    "train dirac --seeds 1000000000": "members",
    "train dirac --seeds 99999999999999999999": "members",
    "train dirac --penalty-every 99999999999999999999": "--penalty-every must be",
    "train dirac --steps 2 --batch 2 --out caf\udcff": "no name in UTF-8",
    "train dirac --device meta": "no data. Try --device cpu.",
    "train dirac --metrics energy --metrics-data nowhere.npz": "nowhere.npz does not exist",
    "train dirac --objective f-gan:divergence=x": "reverse-kl",
    "train images --data= --resolution 8": "no images were named",
    "resume run --steps 4 --device tpu9": "device",
    "resume run --steps 4 --batch -1": "batch",
    "resume run --steps 4 --from file": "checkpoint",
    "resume run --steps 4 --data nowhere.zip": "nowhere.zip",
    "sample run --n -4": "--n",
    "sample run --n 999999999999": "not enough memory",
    "sample run --n 99999999999999999999": "--n must be",
    "sample run --out newdir/a.gif": "ends in",
    "sample run --checkpoint file": "file",
    "sample run --member 3": "member",
    "evaluate run --data data.npz --samples -4 --features pixels": "samples",
    "evaluate run --data nowhere.npz --features pixels": "nowhere.npz does not exist",
    "evaluate run --data data.npz --features nonsense": "nonsense",
    "evaluate run --data data.npz --features pixels --metrics nonsense": "nonsense",
    "evaluate run --data data.npz --samples 24 --features pixels --seed -1": "--seed is",
    "crosstest run --data data.npz": "two",
    "crosstest run other --data data.npz --samples 24 --seed -1": "--seed is",
    "diagnose run --regularizer bogus": "Unknown regularizer 'bogus'",
    "diagnose run --budget -1": "budget",
    "analyze dirac --lr -1": "learning rate",
    "analyze dirac --regularizer nonsense": "nonsense",
    "convert-gamma --from nonsense 3": "nonsense",
    "reproduce nonsense": "nonsense",
    "reproduce roth-fig5 --scale huge": "huge",
    "reproduce roth-fig6 --seeds 0": "seeds",
    "audit nowhere.py": "nowhere.py",
    "audit file --arguments=it's": "No closing quotation",
    # outputs that cannot be written
    "train dirac --steps 2 --batch 2 --out file/run": "file",
    "train dirac --steps 2 --batch 2 --out run": "exists",
    "sample run --out file/x.png": "file",
    "report run --out file/x.html": "file",
    "report run --out /dev/full": "no plain file",
    "table run --csv --out .": "no plain file",
    "table run --csv --out /": "no plain file",
    "crosstest run other --data data.npz --samples 24 --picture file/x.png": "file",
    "diagnose run --budget 8 --out file/x.html": "file",
    "analyze dirac --plot file/x.png": "file",
    "reproduce roth-fig5 --scale tiny --out file/x": "file",
    "reproduce --index file/x": "file",
    "reproduce roth-fig5 --scale tiny --out run": "run is a run itself",
    "reproduce roth-fig5 --scale tiny --out file": "file is no folder",
    "demo --steps 2 --out run": "run is a run itself",
    "demo --steps 2 --out file": "file is no folder",
}


def refused(argv, words, place, capsys):
    before = sorted(str(p.relative_to(place)) for p in place.rglob("*"))
    capsys.readouterr()
    status = main(argv)
    said = capsys.readouterr().err
    assert status == 2, said
    assert not said.endswith("..\n")
    assert "Traceback" not in said and words.lower() in " ".join(said.split()).lower(), said
    after = sorted(str(p.relative_to(place)) for p in place.rglob("*"))
    known = (".lock", "crosstest.json", "evaluation.json")
    assert [p for p in after if p not in before and not p.endswith(known)] == []


@pytest.mark.parametrize("command", BAD_VALUES)
def test_an_impossible_value_is_refused(command, place, capsys):
    refused(command.split(), BAD_VALUES[command], place, capsys)


@pytest.mark.parametrize("run", BAD_RUNS)
@pytest.mark.parametrize("command", READS)
def test_a_folder_that_is_no_run_or_a_damaged_one_is_refused(command, run, place, capsys):
    argv = READS[command].format(run).split()
    if (command, run) in FINE:
        assert main(argv) == 0
    else:
        refused(argv, run, place, capsys)
