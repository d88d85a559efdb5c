"""A run in TensorBoard, Weights & Biases and Trackio: what they hold is what the folder holds."""

import importlib.util
import io
import json
import os
import signal
import sys
import time
import types
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import steadygan
from steadygan import Game, SteadyganError, build, critic_backward
from steadygan.cli import main
from steadygan.core.registry import register, unregister
from steadygan.sweeps.plan import identity
from steadygan.training import Config, Watcher, grid, resume, train, train_fleet
from steadygan.training.trackers import Board, Tracker

DIRAC = Config(steps=12, batch=8, log_every=2, evaluate_every=6, checkpoint_every=4, ema=0.0)


def dirac(out, *track, **more):
    config = Config(**{**vars(DIRAC), "track": track, **more.pop("config", {})})
    return train(build("problem", "dirac"), config, out, show=False, **more)


def digits(**more):
    problem = build("problem", "images:data=digits,resolution=8,channels=1")
    given = {"steps": 4, "batch": 4, "log_every": 1, "evaluate_every": 2, "checkpoint_every": 2}
    chosen = {"network": "dcgan:width=4", "metrics": "kid", "features": "pixels"}
    return problem, Config(**given, **chosen, metrics_samples=50, ema=0.0, **more)


def rows(folder, *without):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in without} for line in lines]


def events(folder):
    size = dict.fromkeys(("images", "tensors", "scalars"), 0)
    return EventAccumulator(str(folder), size_guidance=size).Reload()


def curves(folder):
    found = events(folder)
    return {
        name: [(each.step, each.value) for each in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def expected(folder, member=None):
    """The curves that the lines of a folder's own file make, in the precision of event files."""
    made = {}

    def add(name, step, value):
        value = value if member is None or value is None else value[member]
        if value is not None:
            made.setdefault(name, []).append((step, float(np.float32(value))))

    for row in rows(folder, "seconds"):
        step = row.pop("step")
        for name, value in row.pop("metrics", {}).items():
            add(f"metrics/{name}", step, value)
        for name, (low, high) in row.pop("intervals", {}).items():
            add(f"metrics/{name}/low", step, low)
            add(f"metrics/{name}/high", step, high)
        for name, value in row.items():
            add(f"train/{name}", step, value)
    return made


def decoded(shown):
    return np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))


def texts(folder, name):
    held = events(folder).Tensors(f"{name}/text_summary")
    return [(each.step, each.tensor_proto.string_val[0].decode()) for each in held]


class Stop(Watcher):
    def __init__(self, step):
        self.step = step

    def stepped(self, training):
        if training.step == self.step:
            raise RuntimeError("killed")


class Trouble(Watcher):
    """Names a trouble at a step."""

    def stepped(self, training):
        if training.step == 6:
            training.warn(0, "critic-won", "the critic's loss is <0.01>")


def test_tensorboard_holds_what_the_folder_holds_and_training_does_not_notice(tmp_path):
    problem, config = digits(track=("tensorboard",))
    train(problem, config, tmp_path / "a", show=False)
    train(*digits(), tmp_path / "b", show=False)
    assert rows(tmp_path / "a", "seconds") == rows(tmp_path / "b", "seconds")
    bits = [steadygan.load_generator(tmp_path / name).state_dict() for name in "ab"]
    assert all(torch.equal(bits[0][name], bits[1][name]) for name in bits[0])

    folder = tmp_path / "a" / "tensorboard"
    assert [path.is_file() for path in folder.iterdir()] == [True]
    found = curves(folder)
    assert found == expected(tmp_path / "a") and len(found["train/critic_loss"]) == 4
    low, value, high = (found[f"metrics/kid{end}"][-1][1] for end in ("/low", "", "/high"))
    assert low < value < high
    held = events(folder)
    pictures = {each.step: decoded(each) for each in held.Images("samples")}
    assert [*pictures] == [0, 2, 4]
    kept = {step: tmp_path / f"b/samples/step-{step:08d}.png" for step in pictures}
    for step, path in kept.items():
        assert np.array_equal(pictures[step], np.asarray(Image.open(path).convert("RGB")))
    (real,) = held.Images("real")
    assert np.array_equal(
        decoded(real), np.asarray(Image.open(tmp_path / "b/samples/real.png").convert("RGB"))
    )
    ((step, text),) = texts(folder, "configuration")
    assert step == 0 and "| network | dcgan:width=4" in text and "| problem.data | digits |" in text


def test_a_resumed_run_goes_on_with_its_curves_and_what_was_rolled_back_is_gone(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", "tensorboard", watchers=[Trouble(), Stop(11)])
    before = curves(tmp_path / "run/tensorboard")["train/penalty"]
    assert [step for step, _ in before] == [2, 4, 6, 8, 10]
    # Another gamma from the checkpoint at 8 on: the row of step 10 is another one.
    resume(tmp_path / "run", changes={"regularizer": ("r1:gamma=3",)}, show=False)
    found = curves(tmp_path / "run/tensorboard")
    assert found == expected(tmp_path / "run")
    after = found["train/penalty"]
    assert [step for step, _ in after] == [2, 4, 6, 8, 10, 12]
    assert after[:4] == before[:4] and after[4] != before[4]
    ((step, text),) = texts(tmp_path / "run/tensorboard", "warnings")
    # With advice, and as plain text.
    assert step == 6 and "\\<0.01\\>; try a gradient penalty" in text
    assert len(texts(tmp_path / "run/tensorboard", "configuration")) == 1


def test_a_line_without_its_step_and_a_history_of_none_are_gone_on_from(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", "tensorboard", watchers=[Stop(11)])
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"seconds": 1.0}\n')
    about = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps({**about, "history": None}))
    assert resume(tmp_path / "run", show=False).state == "finished"
    assert curves(tmp_path / "run/tensorboard") == expected(tmp_path / "run")


def test_a_run_that_was_begun_without_a_tracker_is_told_from_its_start(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", watchers=[Trouble(), Stop(11)])
    resume(tmp_path / "run", track=["tensorboard"], show=False)
    assert curves(tmp_path / "run/tensorboard") == expected(tmp_path / "run")
    shown = [each.step for each in events(tmp_path / "run/tensorboard").Images("samples")]
    assert shown == [0, 6, 12]
    assert [step for step, _ in texts(tmp_path / "run/tensorboard", "warnings")] == [6]
    # It goes on by itself, or ends where that is asked for.
    resume(tmp_path / "run", steps=14, show=False)
    assert len(curves(tmp_path / "run/tensorboard")["train/critic_loss"]) == 7
    resume(tmp_path / "run", steps=16, track=[], show=False)
    assert len(curves(tmp_path / "run/tensorboard")["train/critic_loss"]) == 7
    resume(tmp_path / "run", steps=18, track=["tensorboard"], show=False)  # with what it has missed
    assert curves(tmp_path / "run/tensorboard") == expected(tmp_path / "run")


def test_each_of_many_gans_is_a_run_of_its_own(tmp_path):
    members = grid(Config(**{**vars(DIRAC), "track": ("tensorboard",)}), seeds=2)
    train_fleet(build("problem", "dirac"), members, tmp_path / "run", show=False)
    for i in range(2):
        folder = tmp_path / f"run/tensorboard-member-{i}"
        assert curves(folder) == expected(tmp_path / "run", i)
        assert f"| seed | {i} |" in texts(folder, "configuration")[0][1]
    with pytest.raises(SteadyganError, match="at most 256"):
        train_fleet(build("problem", "dirac"), grid(members[0], 257), tmp_path / "many", show=False)
    assert not (tmp_path / "many").exists()


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_trained(
    tmp_path, monkeypatch, capsys
):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "wandb" else there(name)
    )
    with pytest.raises(SteadyganError, match=r"pip install 'steadygan\[wandb\]'"):
        dirac(tmp_path / "run", "wandb")
    with pytest.raises(SteadyganError, match=r"pip install 'steadygan\[wandb\]'"):
        steadygan.track("wandb", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert main(["train", "dirac", "--track", "tensorbord", "--out", str(tmp_path / "run")]) == 2
    assert "tensorboard" in capsys.readouterr().err


def test_nothing_is_written_through_a_link(tmp_path):
    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", watchers=[Stop(11)])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run/tensorboard").symlink_to(tmp_path / "elsewhere")
    assert resume(tmp_path / "run", track=["tensorboard"], show=False).state == "finished"
    assert not [*(tmp_path / "elsewhere").iterdir()]
    assert "is a link" in (tmp_path / "run/warnings.jsonl").read_text()


class Kept(Board):
    """Keeps what it is told, and fails at a step."""

    def __init__(self, told, fails):
        self.told, self.fails = told, fails

    def numbers(self, step, values):
        if step == self.fails:
            raise OSError(28, "No space left on device")
        self.told.append(step)

    def picture(self, step, name, image):
        pass

    def words(self, step, name, text):
        self.told.append(text)

    def close(self, well):
        self.told.append(f"closed {well}")


@pytest.fixture
def kept():
    @register("tracker", "kept")
    @dataclass(frozen=True)
    class Keeping(Tracker):
        """A list. Reference: none needed."""

        fails: int = 0
        package: ClassVar[str] = "json"
        told: ClassVar[list] = []

        def open(self, place):
            return Kept(self.told, self.fails)

    yield Keeping.told
    unregister(Keeping)


def test_a_tracker_that_fails_is_named_once_and_training_goes_on(tmp_path, kept):
    outcome = dirac(tmp_path / "a", "kept:fails=6", "tensorboard")
    assert outcome.state == "finished"
    dirac(tmp_path / "b")
    assert rows(tmp_path / "a", "seconds") == rows(tmp_path / "b", "seconds")
    assert kept == [2, 4, "closed False"]
    (line,) = (tmp_path / "a/warnings.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 6 and "No space left on device" in line
    # The other one shows that, too, and misses nothing.
    assert texts(tmp_path / "a/tensorboard", "warnings")[0][0] == 6
    assert curves(tmp_path / "a/tensorboard") == expected(tmp_path / "a")
    # Resumed, it is told what it has missed.
    kept.clear()
    resume(tmp_path / "a", steps=14, track=["kept"], show=False)
    assert [each for each in kept if isinstance(each, int)] == [2, 4, 6, 8, 10, 12, 14]
    assert kept[-1] == "closed True"


@pytest.mark.parametrize(
    ("number", "raises"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_while_a_tracker_closes_leaves_the_run_ended(
    tmp_path, kept, monkeypatch, number, raises
):
    def slow(board, well):
        os.kill(os.getpid(), number)
        time.sleep(10)  # until it is heard

    before = signal.getsignal(number)
    monkeypatch.setattr(Kept, "close", slow)
    with pytest.raises(raises):
        dirac(tmp_path / "a", "kept")
    assert json.loads((tmp_path / "a/status.json").read_text())["state"] == "finished"
    assert signal.getsignal(number) == before


def test_a_sweep_knows_its_runs_whoever_looks_on():
    plain = Config(steps=3)
    assert identity({}, plain) == identity({}, Config(steps=3, track=("tensorboard",)))
    assert identity({}, plain) != identity({}, Config(steps=4))


class FakeWandb(types.ModuleType):
    """Stands in for the package: runs by id, with what each was sent."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.util.spec_from_loader("wandb", None)
        self.opened, self.runs, self.mode = [], {}, "offline"
        self.Settings, self.Image, self.Html = dict, lambda image: image.size, str
        self.login = lambda prompt: False

    def setup(self):
        return types.SimpleNamespace(settings=types.SimpleNamespace(mode=self.mode))

    def init(self, **given):
        self.opened.append(given)
        sent = self.runs.setdefault(given["id"], [])
        return types.SimpleNamespace(
            log=lambda values, step: sent.append((step, values)),
            finish=lambda exit_code: sent.append(exit_code),
        )

    def rows(self, run):
        return [step for step, values in self.runs[run] if "train/critic_loss" in values]


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_goes_on_with_its_run_sends_nothing_twice_and_takes_nothing_back(tmp_path, wandb):
    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", "wandb:project=mine", watchers=[Trouble(), Stop(11)])
    (run,) = wandb.runs
    steps = [each[0] for each in wandb.runs[run][:-1]]
    assert steps == sorted(steps) and wandb.runs[run].pop() == 1
    assert (6, {"warnings": wandb.runs[run]}) != steps
    assert wandb.rows(run) == [2, 4, 6, 8, 10]
    told = next(values["warnings"] for _, values in wandb.runs[run] if "warnings" in values)
    assert "&lt;0.01&gt;; try a gradient penalty" in told
    given = wandb.opened[0]
    assert (given["project"], given["name"], given["group"]) == ("mine", "run", None)
    assert given["config"]["problem"] == "dirac" and given["config"]["batch"] == 8

    resume(tmp_path / "run", show=False)  # from step 8, with the same bits
    assert [*wandb.runs] == [run] and wandb.opened[1]["resume"] == "allow"
    assert wandb.runs[run].pop() == 0 and wandb.rows(run) == [2, 4, 6, 8, 10, 12]

    start = tmp_path / "run/checkpoints/step-00000008.safetensors"
    resume(tmp_path / "run", start=start, changes={"batch": 4}, show=False)
    first, second = wandb.runs
    assert first == run and wandb.runs[second].pop() == 0
    steps = [each[0] for each in wandb.runs[second]]
    assert wandb.rows(second) == [2, 4, 6, 8, 10, 12] and steps == sorted(steps)

    wandb.mode = "online"
    with pytest.raises(SteadyganError, match="wandb login"):
        dirac(tmp_path / "other", "wandb")


def test_wandb_shows_many_gans_as_a_group(tmp_path, wandb):
    members = grid(Config(**{**vars(DIRAC), "track": ("wandb",)}), seeds=2)
    train_fleet(build("problem", "dirac"), members, tmp_path / "run", show=False)
    assert [(each["name"], each["group"]) for each in wandb.opened] == [
        ("run/member-0", "run"),
        ("run/member-1", "run"),
    ]
    for i, (run, given) in enumerate(zip(wandb.runs, wandb.opened, strict=True)):
        sent = {step: values for step, values in wandb.runs[run][:-1] if "train/penalty" in values}
        assert given["config"]["seed"] == i
        assert sent[12]["train/critic_loss"] == rows(tmp_path / "run")[-1]["critic_loss"][i]


class FakeTrackio(types.ModuleType):
    """Stands in for the package: a store of runs by name."""

    def __init__(self):
        super().__init__("trackio")
        self.__spec__ = importlib.util.spec_from_loader("trackio", None)
        self.runs, self.opened = {}, []
        self.Image, self.Markdown = (lambda image: image.size), str

    def Api(self):
        def entry(name):
            return types.SimpleNamespace(name=name, delete=lambda: self.runs.pop(name))

        def runs(project):
            if not self.runs:
                raise ValueError("no such project")
            return [entry(name) for name in list(self.runs)]

        return types.SimpleNamespace(runs=runs)

    def init(self, **given):
        print("a word of its own")
        self.opened.append(given)
        sent = self.runs.setdefault(given["name"], [])
        return types.SimpleNamespace(
            log=lambda values, step: sent.append((step, values)), finish=lambda: None
        )


def test_trackio_is_told_anew_what_was_rolled_back(tmp_path, monkeypatch, capsys):
    fake = FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    fake.runs["run"] = []  # another one of that name
    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", "trackio", watchers=[Stop(11)])
    assert [*fake.runs] == ["run", "run-2"] and fake.runs["run"] == []
    resume(tmp_path / "run", changes={"batch": 4}, show=False)
    assert [*fake.runs] == ["run", "run-2"]
    sent = [each for each in fake.runs["run-2"] if "train/critic_loss" in each[1]]
    assert [step for step, _ in sent] == [2, 4, 6, 8, 10, 12]
    lines = {row["step"]: row["critic_loss"] for row in rows(tmp_path / "run")}
    assert {step: values["train/critic_loss"] for step, values in sent} == lines
    assert capsys.readouterr().out == ""  # what goes there is for programs


def test_ones_own_loop_is_tracked_by_one_function(tmp_path):
    torch.manual_seed(0)
    D, game = torch.nn.Linear(3, 1), Game("nonsaturating", "r1:gamma=1")
    told = []
    with steadygan.track("tensorboard", tmp_path, settings={"lr": 0.1}) as tracker:
        for step in range(4):
            found = critic_backward(game, D, torch.randn(8, 3), torch.randn(8, 3))
            tracker(step, found, generator_loss=torch.tensor(float(step)))
            told.append(found)
        tracker.samples(3, torch.zeros(4, 1, 8, 8))
        tracker.words(3, "a note")
    found = curves(tmp_path / "tensorboard")
    assert found["train/penalty"] == [(i, float(each.penalty)) for i, each in enumerate(told)]
    assert [v for _, v in found["train/critic_loss"]] == [float(r.terms.objective) for r in told]
    assert [v for _, v in found["train/generator_loss"]] == [0, 1, 2, 3]
    assert [v for _, v in found["train/gradient_norm_real"]] == [
        float(r.gradient_norm_real) for r in told
    ]
    logits = [float(r.terms.scores["fake"].logits.mean()) for r in told]
    assert [v for _, v in found["train/logit_fake"]] == logits
    assert decoded(events(tmp_path / "tensorboard").Images("samples")[0]).shape == (16, 16, 3)

    with steadygan.track("tensorboard", tmp_path, step=2) as tracker:  # broken off, goes on at 2
        terms = game.generator_terms(D, torch.randn(8, 3), torch.randn(8, 3))
        tracker(3, terms)
        tracker(4, {"fid": 7.0, "nothing": float("nan")})
    found = curves(tmp_path / "tensorboard")
    assert [step for step, _ in found["train/critic_loss"]] == [0, 1, 2]
    assert found["train/generator_loss"] == [(0, 0), (1, 1), (2, 2), (3, terms.loss.item())]
    assert found["train/fid"] == [(4, 7.0)] and "train/nothing" not in found


def test_ones_own_loop_goes_on_without_a_tracker_that_fails(tmp_path, kept):
    tracker = steadygan.track("kept:fails=2", tmp_path)
    tracker(1, {"loss": 1.0})
    with pytest.warns(UserWarning, match="No space left on device") as said:
        tracker(2, {"loss": 1.0})
        tracker(2, {"loss": 1.0})
    tracker(3, {"loss": 1.0})
    tracker.close()
    assert len(said) == 1 and kept == [1]


def logged(data, block=32768, head=7):
    """The records of a file in the format of LevelDB's log: each in parts that fit into blocks."""
    at, found = head, b""
    while at < len(data):
        if block - at % block < head:
            at += block - at % block
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        found += data[at + head : at + head + size]
        at += head + size
        if kind in (1, 4):  # whole, or the last part
            yield found
            found = b""


@pytest.mark.slow
def test_wandb_itself_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    problem, config = digits(track=("wandb",))
    train(problem, config, tmp_path / "run", show=False)
    from wandb.proto import wandb_internal_pb2

    (path,) = (tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb")
    sent = {}
    for data in logged(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        items = {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        sent |= {(items["_step"], name): value for name, value in items.items()} if items else {}
    losses = [value for (_, name), value in sent.items() if name == "train/critic_loss"]
    assert losses == [row["critic_loss"] for row in rows(tmp_path / "run")]
    assert sent[4, "metrics/kid/low"] == rows(tmp_path / "run")[-1]["intervals"]["kid"][0]
    named = sent.get((4, "samples"), {}).get("path") or sent[4, "samples.path"]
    shown = Image.open(path.parent / "files" / named).convert("RGB")
    kept = Image.open(tmp_path / "run/samples/step-00000004.png").convert("RGB")
    assert np.array_equal(np.asarray(shown), np.asarray(kept))


@pytest.mark.slow
def test_trackio_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    with pytest.raises(RuntimeError, match="killed"):
        dirac(tmp_path / "run", "trackio:project=tests", watchers=[Stop(11)])
    resume(tmp_path / "run", show=False)
    held = SQLiteStorage.get_logs("tests", "run")
    losses = {each["step"]: each["train/critic_loss"] for each in held if "train/penalty" in each}
    assert losses == {row["step"]: row["critic_loss"] for row in rows(tmp_path / "run")}
    assert sum("train/penalty" in each for each in held) == 6
