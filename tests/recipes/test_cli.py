"""The command line as people and programs use it, in one process: every command, and every error
that ends with status 2."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import steadygan
from steadygan.cli import COMMANDS, entry, main
from steadygan.cli.arguments import options
from steadygan.cli.show import table
from steadygan.core.registry import KINDS, lookup, names, unregister

TINY = ["--network", "mlp:width=8", "--steps", "2", "--batch", "16"]


@pytest.fixture(scope="module")
def image_zip(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "photos.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(12):
            with archive.open(f"photos/{'cats' if i % 2 else 'dogs'}/{i}.png", "w") as file:
                Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(file, "png")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *argv):
    """Run a command that must be refused; return what it said on standard error."""
    assert main(argv) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err and said.out == ""
    return " ".join(said.err.split())


def test_images_from_a_zip_train_sample_resume_and_report(here, image_zip, capsys):
    argv = [
        "train",
        "images",
        "--data",
        str(image_zip),
        "--resolution",
        "16",
        "--network",
        "dcgan:width=4",
        "--batch",
        "4",
        "--steps",
        "2",
    ]
    assert (
        main(
            [
                *argv,
                "--regularizer",
                "js:gamma=2,anneal=0.01",
                "--regularizer",
                "r2:gamma=0.5",
                "--conditional",
                "--out",
                "runs/photos",
            ]
        )
        == 0
    )
    run = Path("runs/photos")
    config = json.loads((run / "config.json").read_text())
    assert (
        config["config"]["regularizer"] == ["js:gamma=2,anneal=0.01", "r2:gamma=0.5"]
        and config["classes"] == 2
    )
    assert config["problem"]["data"] == str(image_zip) and config["config"]["seed"] == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2 and rows[-1]["penalty"] > 0
    assert Image.open(run / "samples/step-00000002.png").size == (8 * 16, 8 * 16)

    assert main(["sample", "runs/photos", "--n", "5", "--out", "grid.png"]) == 0
    assert Image.open("grid.png").size == (2 * 16, 3 * 16)
    assert main(["sample", "runs/photos", "--n", "5", "--out", "grid.npz"]) == 0
    assert np.load("grid.npz")["samples"].shape == (5, 3, 16, 16)

    assert main(["resume", "runs/photos", "--steps", "3"]) == 0
    assert main(["report", "runs/photos"]) == 0
    page = (run / "report.html").read_text()
    assert "js:gamma=2,anneal=0.01" in page and not re.search(r"""(src|href)=["']?https?:""", page)
    capsys.readouterr()


@pytest.mark.parametrize("problem", [p for p in names("problem") if p != "images"])
def test_every_problem_trains(here, problem, capsys):
    network = [] if problem in ("dirac", "bilinear") else ["--network", "mlp:width=8"]
    assert (
        main(
            [
                "train",
                problem,
                *network,
                "--steps",
                "1",
                "--batch",
                "16",
                "--regularizer",
                "r1",
                "--out",
                "run",
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.strip() == "run"
    assert json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])["metrics"]


@pytest.mark.parametrize("dynamics", names("dynamics"))
def test_every_dynamics_and_a_constraint_train(here, dynamics, capsys):
    argv = [
        "train",
        "ring2d",
        *TINY,
        "--dynamics",
        dynamics,
        "--objective",
        "wasserstein",
        "--constraint",
        "clip:c=0.01",
        "--out",
        "run",
    ]
    assert (
        main(
            [
                *argv,
                "--optimizer",
                "rmsprop",
                "--critic-optimizer",
                "sgd:lr=0.1",
                "--smoothing",
                "explicit-noise:nsr=4",
            ]
        )
        == 0
    )


def test_without_out_a_run_gets_a_new_folder_each_time(here, capsys):
    for _ in range(2):
        assert main(["train", "dirac", "--steps", "1", "--regularizer", "js:gamma=0.1"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == "runs/dirac-js-gamma=0.1" and second == "runs/dirac-js-gamma=0.1-2"


def test_list_names_everything(capsys):
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == {kind: names(kind) for kind in KINDS}
    objectives = (
        "minimax nonsaturating wasserstein least-squares hinge relativistic"
        " relativistic-average f-gan"
    )
    assert set(objectives.split()) <= set(listed["objective"])
    assert set("js f-gan r1 r2 r1r2 wgan-gp wgan-lp gp0 dragan lecam".split()) <= set(
        listed["regularizer"]
    )
    assert set(
        "simultaneous alternating consensus extragradient optimistic unrolled".split()
    ) <= set(listed["dynamics"])
    assert set(
        "kl reverse-kl pearson neyman squared-hellinger js gan jeffrey alpha".split()
    ) <= set(listed["divergence"])
    assert set(
        "mixture3d ring2d grid2d line2d circle2d lines2d dirac bilinear images".split()
    ) <= set(listed["problem"])
    assert set("mlp dcgan resnet".split()) <= set(listed["network"])
    assert main(["list", "regularizer"]) == 0
    assert "gamma/2" in capsys.readouterr().out


def test_convert_gamma(capsys):
    assert main(["convert-gamma", "--from", "gan-stability", "10"]) == 0
    said = capsys.readouterr().out
    assert "gamma = 20" in said and "2 c" in said
    assert main(["convert-gamma", "--from", "wgan-gp", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gamma"] == 20.0
    many = ["--outputs", "each", "--positions", "900"]
    assert main(["convert-gamma", "--from", "lucidrains-stylegan2", "10", *many]) == 0
    said = capsys.readouterr().out
    assert "gamma = 4500" in said and "r1r2:gamma=5" in said and "penalize the sum" in said


MODULE = '''
from dataclasses import dataclass
from typing import ClassVar
from steadygan import register
from steadygan.core.regularizers import GradientPenalty

@register("regularizer", "half-r1")
@dataclass(frozen=True)
class HalfR1(GradientPenalty):
    """A quarter of gamma times E_real ||grad D||^2. Reference: this test."""
    where: ClassVar[tuple[str, ...]] = ("real",)
    def weight(self, point, logits):
        return logits.new_tensor(0.5).expand_as(logits)
'''


def test_a_regularizer_from_a_module_of_ones_own(here, capsys):
    Path("mine.py").write_text(MODULE)
    try:
        assert main(["list", "regularizer", "--json", "--import", "mine.py"]) == 0
        assert "half-r1" in json.loads(capsys.readouterr().out)["regularizer"]
        assert (
            main(
                [
                    "train",
                    "mixture3d",
                    *TINY,
                    "--import",
                    "mine.py",
                    "--regularizer",
                    "half-r1:gamma=4",
                    "--out",
                    "mine",
                ]
            )
            == 0
        )
        assert (
            main(["train", "mixture3d", *TINY, "--regularizer", "r1:gamma=2", "--out", "theirs"])
            == 0
        )
        ends = [
            json.loads((Path(run) / "metrics.jsonl").read_text().splitlines()[-1])
            for run in ("mine", "theirs")
        ]
        assert (
            ends[0]["penalty"] == pytest.approx(ends[1]["penalty"], rel=1e-5)
            and ends[0]["penalty"] > 0
        )
        assert main(["resume", "mine", "--steps", "3", "--import", "mine.py"]) == 0
    finally:
        unregister(lookup("regularizer", "half-r1"))
    capsys.readouterr()
    assert "Unknown regularizer 'half-r1'" in refused(capsys, "resume", "mine", "--steps", "4")


def test_errors_say_what_is_wrong_and_make_nothing(here, image_zip, capsys):
    def says(*argv):
        said = refused(capsys, *argv)
        assert not Path("runs").exists() and not Path("run").exists()
        return said

    empty = here / "empty"
    empty.mkdir()
    assert "nearest first: js," in says("train", "dirac", "--regularizer", "jss")
    assert "nearest first: mixture3d" in says("train", "mixture")
    assert "no setting 'lambda'; it takes: gamma" in says(
        "train", "dirac", "--regularizer", "r1:lambda=1"
    )
    assert "gamma must be a finite number >= 0, not -1" in says(
        "train", "dirac", "--regularizer", "r1:gamma=-1"
    )
    assert "'ten' is not a number" in says("train", "dirac", "--regularizer", "r1:gamma=ten")
    assert "nope" in says("train", "images", "--data", "nope")
    assert "empty" in says("train", "images", "--data", str(empty))
    assert "--data" in says("train", "images")
    assert "32" in says(
        "train", "images", "--data", str(image_zip), "--resolution", "33", "--network", "dcgan"
    )
    assert "makes its own samples" in says("train", "dirac", "--resolution", "32")
    assert "nearest first: regularizer" in says("list", "regularisers")
    assert "nearest first: gan-stability" in says("convert-gamma", "--from", "gan_stability", "10")
    assert "no run folder" in says("sample", "nowhere")
    assert "no run folder" in says("resume", str(empty))
    assert "no such file" in says("list", "--import", "nothing.py")
    assert "No module named" in says("list", "--import", "nothing_at_all")


def test_an_existing_run_folder_is_refused(here, capsys):
    assert main(["train", "dirac", "--steps", "1", "--out", "run"]) == 0
    capsys.readouterr()
    before = (here / "run/metrics.jsonl").read_bytes()
    assert "steadygan resume run" in refused(capsys, "train", "dirac", "--out", "run")
    assert (here / "run/metrics.jsonl").read_bytes() == before


def test_a_damaged_run_folder_is_refused(here, capsys):
    assert main(["train", "dirac", "--steps", "1", "--out", "run"]) == 0
    capsys.readouterr()
    (here / "run/config.json").write_text("{")
    assert "cannot be read" in refused(capsys, "resume", "run", "--steps", "2")


def test_the_demo_makes_its_table_picture_and_report(here, capsys):
    assert main(["demo", "--steps", "12", "--seed", "3"]) == 0
    said = capsys.readouterr().out
    assert "unregularized" in said and "js-regularized" in said and "sliced" in said
    assert (
        Image.open("runs/demo/demo.png").width >= 1000
        and Path("runs/demo/report.html").stat().st_size > 10_000
    )
    configs = [
        json.loads(Path(f"runs/demo/{name}/config.json").read_text())["config"]
        for name in ("unregularized", "js-regularized")
    ]
    assert {key for key in configs[0] if configs[0][key] != configs[1][key]} == {"regularizer"}
    assert (
        configs[0]["objective"] == "minimax"
        and configs[0]["dynamics"] == "alternating:critic_steps=5"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"Examples?:\s+steadygan {command}", shown)


def test_without_a_command_there_is_an_overview(capsys):
    for argv in ([], ["--help"], ["-h"]):
        assert main(argv) == 0
        shown = capsys.readouterr().out
        assert all(f"\n  {name} " in shown for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"steadygan {steadygan.__version__}\n"


def test_mistakes_are_answered_with_what_is_near(capsys):
    assert "nearest first: train," in refused(capsys, "trian")
    said = refused(capsys, "train", "dirac", "--regularizr", "r1")
    assert "no option '--regularizr'; nearest: --regularizer," in said
    assert "nearest: --critic-optimizer," in refused(
        capsys, "train", "dirac", "--critic_optimiser=x"
    )
    assert main(["train", "dirac", "--steps", "ten"]) == 2
    assert "--steps: invalid literal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--steps 0", "--steps must be a whole number >= 1, not 0"),
        ("--keep-checkpoints 0", "--keep-checkpoints must be at least 1"),
        ("--penalty-share 2", "--penalty-share is the part of each batch"),
        ("--metrics energy --metrics-samples 3", "--metrics-samples must be at least 20"),
    ],
)
def test_settings_are_spelled_as_options(here, capsys, words, said):
    assert f"steadygan: {said}" in refused(capsys, "train", "dirac", *words.split())


def test_the_help_of_train_comes_in_groups_with_the_problem_s_own_defaults(capsys):
    assert main(["train", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for group in ("image", "game", "player", "computation", "measuring", "record"):
        assert f" {group} options " in shown
    assert "how long (default: the problem's own)" in shown and "central part" in shown
    assert main(["train", "images", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "how long (default: 20,000)" in shown and "(default: dcgan)" in shown
    assert main(["train", "--help", "mixture3d"]) == 0
    steps = lookup("problem", "mixture3d").recipe.steps
    assert f"how long (default: {steps:,})" in " ".join(capsys.readouterr().out.split())


def test_every_option_is_known_by_its_spelling(capsys):
    for name, cls in COMMANDS.items():
        assert main([name, "--help"]) == 0
        shown = capsys.readouterr().out.partition("usage:")[2]
        assert re.findall(r"^\W{0,2}(--[a-z][a-z-]*)", shown, flags=re.M) == options(cls)


def test_tables_fit_the_terminal(capsys, monkeypatch):
    """Whole words in every line: in columns where there is room, else one row below the other."""
    rows = [("mixture3d", "a-word-without-any-blank-inside", "some words " * 9)]
    for width in (80, 60):
        monkeypatch.setenv("COLUMNS", str(width))
        table(("name", "settings", "what it is"), rows)
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line.rstrip()) for line in lines) <= width
        assert {word for line in lines for word in line.split()} >= {"some", "words", *rows[0][:2]}
        assert lines[0].split() == (
            ["name", "settings", "what", "it", "is"] if width == 80 else ["mixture3d"]
        )


def test_lines_of_a_head_are_one_where_columns_do_not_fit(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    table(("", "a-rather-long-name\nstep 20", "b-rather-long-name\nstep 40"), [("fd", "1", "2")])
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said == [
        ["fd"],
        ["a-rather-long-name,", "step", "20", "1"],
        ["b-rather-long-name,", "step", "40", "2"],
    ]


def test_analyze_and_the_list_of_experiments_break_no_word(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["analyze", "dirac", "--regularizer", "{none,js}", "--smoothing", "none"]) == 0
    assert main(["reproduce"]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    for word in (
        "nonsaturating, js, alternating, lr=0.2",
        "linearisation",
        "eigenvalues",
        "undecided",
    ):
        assert word in said


def test_what_comes_from_outside_cannot_steer_the_terminal(here, capsys):
    """A file name in a stranger's archive, and markup in the name of a run."""
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("\x1b]0;owned\x07\x1b[31mred.png", "no")
        archive.writestr("b.png", "no")
    said = refused(capsys, "train", "images", "--data", "x.zip", "--out", "run")
    assert "\x1b" not in said and "\x07" not in said and r"\x1b]0;owned\x07\x1b[31mred.png" in said
    table(("", "[red]x[/red]"), [("[bold]a[/bold]", "\x1b[31mb")])
    shown = capsys.readouterr().out
    assert "[bold]a[/bold]" in shown and "[red]x[/red]" in shown and r"\x1b[31mb" in shown


def test_home_is_found_where_the_shell_leaves_it(here, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(here / "home"))
    Path("run.yaml").write_text("problem: dirac\nsteps: 1\ninit: ~/first\n")
    assert main(["train", "dirac", "--steps", "1", "--out=~/first"]) == 0
    assert main(["train", "--config", "run.yaml", "--out", "~/second"]) == 0
    assert {"first", "second"} == {path.name for path in Path("home").iterdir()}
    assert main(["table", "~/first", "--csv", "--out=~/tables/t.csv"]) == 0
    assert Path("home/tables/t.csv").is_file() and not Path("~").exists()


def test_what_standard_output_cannot_spell_ends_nothing(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", write_through=True))
    monkeypatch.setattr(sys, "argv", ["steadygan", "sample", "--help"])
    with pytest.raises(SystemExit, match=r"^0$"):
        entry()
    assert rb"z \u2192 PSI\xb7z" in b" ".join(written.getvalue().split())


def test_many_gans_are_taken_one_by_one_by_way_of_export(here, capsys):
    assert main(["train", "ring2d", "--steps", "1", "--seeds", "2", "--out", "many"]) == 0
    capsys.readouterr()
    said = refused(capsys, "evaluate", "many", "--samples", "20")
    assert "export many --to DIR --member" in said
    assert "export many --to DIR --member" in refused(capsys, "crosstest", "many", "many")
    assert main(["export", "many", "--to", "one", "--member", "1"]) == 0
    assert main(["evaluate", "one", "--samples", "20", "--metrics", "fd"]) == 0
    assert "FD (vectors)" in capsys.readouterr().out


def test_what_cannot_be_written_is_a_reason(here, capsys):
    assert main(["train", "dirac", "--steps", "1", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["analyze", "dirac", "--plot", "run/config.json/x.png"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and "run/config.json cannot be written" in said
    for words in ("report run --out run/config.json/x.html", "reproduce --index run/config.json/x"):
        assert "run/config.json" in refused(capsys, *words.split())


def test_output_that_a_full_disk_does_not_take_is_a_sentence():
    """As ``steadygan list > /dev/full``, in a process of its own."""
    program = (
        "from steadygan.cli import entry; import sys; sys.argv = ['steadygan', 'list']; entry()"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert (
        done.stderr == b"steadygan: What this prints cannot be written: No space left on device.\n"
    )


def test_a_reader_that_leaves_ends_the_command_quietly():
    """As ``steadygan list | head -1``, in a process of its own."""
    program = (
        "from steadygan.cli import entry; import sys; sys.argv = ['steadygan', 'list']; entry()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout.readline() == b"objective\n"
        running.stdout.close()
        assert running.wait() == 141 and running.stderr.read() == b""
