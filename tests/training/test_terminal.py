"""What a person sees while training: whole words and all figures in 80 columns, seldom a line in a
file, and nothing that could end a run."""

import io
import re
import sys
from types import SimpleNamespace

from rich.console import Console

from steadygan import build
from steadygan.runs.monitor import Warning
from steadygan.training import Config, Watcher, train
from steadygan.training.watchers import Ending, Record
from steadygan.training.watchers import terminal as module
from steadygan.training.watchers.terminal import TerminalWatcher

ROW = {"critic_loss": 1.3, "penalty": 0.02, "generator_loss": 0.7, "gradient_norm_real": 1e-5}
METRICS = dict.fromkeys(("modes", "hq10", "kl", "sw1", "sliced_wasserstein", "energy"), 123.456)


def shown(monkeypatch, width=80, terminal=True, steps=(0, 5000, 20_000), members=1):
    """The text that a training shows, without colours."""
    out = io.StringIO()
    monkeypatch.setattr(
        module,
        "console",
        lambda show: Console(file=out, width=width, force_terminal=terminal, highlight=False),
    )
    config = Config(steps=20_000)
    trained = SimpleNamespace(many=members > 1, members=[config] * members)
    training = SimpleNamespace(step=steps[0], config=config, trained=trained)
    watcher = TerminalWatcher("mixture3d-js-gamma=0.1-and-a-long-name")
    watcher.began(training)
    for training.step in steps[1:]:
        watcher.stepped(training)
        rows, metrics = [ROW] * members, [METRICS] * members
        watcher.logged(training, Record(training.step, 1.0, rows, metrics))
    watcher.warned(training, 0, Warning(20_000, "mode-loss", "[red]modes[/red] are gone"))
    watcher.ended(training, Ending("finished"))
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n")


def test_in_80_columns_every_figure_is_whole(monkeypatch):
    text = shown(monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    for whole in (
        "20000/20000",
        "it/s",
        "0:00:00",
        "D 1.3",
        "‖∇D‖ 1e-05",
        "sliced_wasserstein 123",
    ):
        assert whole in text, whole
    assert "mode-loss: [red]modes[/red] are gone" in text  # no markup from outside


def test_in_a_file_there_is_a_line_a_minute_and_the_last(monkeypatch):
    text = shown(monkeypatch, terminal=False, steps=(0, *range(100, 20_001, 100)))
    steps = re.findall(r"(\d+)/20000", text)
    assert steps == ["100", "20000"]
    assert "energy 123" in text and text.count("\n") == 3


def test_of_many_the_medians_are_shown(monkeypatch):
    text = shown(monkeypatch, members=3)
    assert "member 0: [red]modes" in text and "3 × mixture3d" in text and "D 1.3" in text


def test_a_terminal_that_is_closed_does_not_end_a_run(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        closed_at = None

        def write(self, text):
            if self.closed_at is not None:
                raise OSError(5, "Input/output error")
            return super().write(text)

        def isatty(self):
            return True

    class Close(Watcher):
        def stepped(self, training):
            terminal.closed_at = training.step

    config = Config(network="mlp:width=4", steps=3, batch=4, log_every=1)
    problem = build("problem", "mixture3d")
    for show in (True, "lines"):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        done = train(problem, config, tmp_path / str(show), show=show, watchers=[Close()])
        assert done.state == "finished" and terminal.closed_at == 3
