"""The report reads run folders as the trainer writes them: whole, just started, cut off, damaged
and hostile."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from steadygan import SteadyganError
from steadygan.report import Run, comparison_picture, curves, write_report
from steadygan.report.views import View, aligned
from steadygan.runs.reading import Series

HOSTILE = """<script>alert("x")</script><img src=x onerror=alert(1)> $\\frac{1}{ {{ 7*7 }} & '"""
HOSTILE += "\x1b[31m\x9b"


def config(problem="mixture3d", regularizer=(), **settings):
    return {
        "steadygan": "0.1.0",
        "problem": {"name": problem},
        "config": {
            "objective": "minimax",
            "regularizer": list(regularizer),
            "smoothing": None,
            "steps": 400,
            "seed": 0,
            **settings,
        },
        "environment": {"steadygan": "0.1.0", "python": "3.11.7", "device": "cpu", "threads": 1},
        "git": None,
        "command": ["steadygan", "train", problem, "--name", "a b"],
        "started": "2026-11-22T01:23:45+00:00",
        "parameters": {"generator": 17283, "critic": 17153},
    }


def ring(rng, n=70):
    """Return a noisy ring (n, 3) in the plane spanned by (1, 0, 1)/sqrt 2 and (0, 1, 0)."""
    angle = 2 * np.pi * rng.integers(7, size=n) / 7
    return (
        np.stack([np.sin(angle) / np.sqrt(2), np.cos(angle), np.sin(angle) / np.sqrt(2)], axis=1)
        + 1
    )


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make(
    folder,
    cfg,
    *,
    steps=range(0, 401, 50),
    sample=ring,
    real=True,
    warnings=(),
    state="finished",
    metrics=True,
    samples=range(0, 401, 100),
):
    rng = np.random.default_rng(0)
    (folder / "samples").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(cfg))
    (folder / "status.json").write_text(
        json.dumps({"state": state, "step": max(steps), "reason": None, "seconds": 93.1})
    )
    rows = [
        {
            "step": s,
            "seconds": s / 50,
            "critic_loss": 1.4 - s / 1000,
            "penalty": 0.02,
            "generator_loss": -0.7,
            "gradient_norm_real": 0.8,
        }
        | {"gradient_norm_fake": 0.9, "logit_real": 0.1, "logit_fake": -0.1}
        | ({"metrics": {"modes": s // 60, "sw1": 1 / (s + 1)}} if metrics and s % 100 == 0 else {})
        for s in steps
    ]
    lines(folder / "metrics.jsonl", rows)
    lines(folder / "warnings.jsonl", warnings)
    for step in samples:
        np.savez(folder / f"samples/step-{step:08d}.npz", samples=sample(rng).astype(np.float32))
    if real:
        np.savez(folder / "samples/real.npz", samples=sample(rng).astype(np.float32))
    return folder


def make_plain(folder):
    return make(
        folder,
        config(),
        warnings=[{"step": 200, "kind": "collapse", "message": "two modes are lost"}],
    )


@pytest.fixture
def plain(tmp_path):
    """A run that a test may damage."""
    return make_plain(tmp_path / "plain")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs that stay as they are, with the page about both and the page about the first."""
    runs = tmp_path_factory.mktemp("runs")
    folders = [make_plain(runs / "plain"), make(runs / "js", config(regularizer=["js:gamma=0.1"]))]
    return folders, write_report(folders), write_report(folders[0])


def shown(page):
    """Return the page as text without its embedded pictures."""
    return re.sub(r"data:image/png;base64,[\w+/=]+", "data:", page.read_text(encoding="utf-8"))


def test_a_whole_run_is_read(plain):
    run = Run.read(plain)
    assert (run.name, run.title, run.status["state"]) == ("plain", "unregularized", "finished")
    assert run.logged["critic_loss"].steps.tolist() == list(range(0, 401, 50))
    assert run.metrics["modes"].values.tolist() == [0, 1, 3, 5, 6]
    assert run.warnings[0] == (200, "collapse", "two modes are lost")
    assert [held.step for held in run.samples] == [0, 100, 200, 300, 400]
    assert run.real.name == "real.npz"
    assert run.settings["problem"] == "mixture3d" and run.settings["environment.device"] == "cpu"


def test_a_run_that_has_just_started_is_reported(tmp_path):
    folder = tmp_path / "young"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config()))
    run = Run.read(folder)
    assert (run.status, run.logged, run.metrics, run.warnings, run.samples, run.real) == (
        {},
        {},
        {},
        (),
        (),
        None,
    )
    page = write_report(folder)
    assert page == folder / "report.html"
    assert "no steps yet" in shown(page) and "Not there yet: status, metrics, samples." in shown(
        page
    )


def test_any_single_part_may_be_missing(tmp_path):
    for i, part in enumerate(
        ("status.json", "metrics.jsonl", "warnings.jsonl", "samples/real.npz")
    ):
        folder = make(tmp_path / str(i), config(), samples=[0], steps=[0, 50])
        (folder / part).unlink()
        assert Run.read(folder).config and (i > 1 or "Not there yet" in shown(write_report(folder)))


@pytest.mark.parametrize("what", ["absent", "empty", "file"])
def test_what_is_no_run_folder_is_refused(tmp_path, what):
    folder = tmp_path / what
    if what == "empty":
        folder.mkdir()
    if what == "file":
        folder.write_text("")
    with pytest.raises(
        SteadyganError, match=r"is no run folder: .*; give one that `steadygan train` made"
    ):
        Run.read(folder)


def test_no_folder_at_all_is_refused():
    with pytest.raises(SteadyganError, match="at least one run folder"):
        write_report([])


def test_a_broken_last_line_is_left_out_and_a_broken_inner_one_refused(plain):
    metrics = plain / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole + '{"step": 450, "critic_lo')
    assert Run.read(plain).logged["critic_loss"].steps[-1] == 400
    metrics.write_text('{"step": 450, "critic_lo\n' + whole)
    with pytest.raises(SteadyganError, match=r"metrics\.jsonl, line 1 is not JSON"):
        Run.read(plain)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("12", "must be a JSON object"),
        ('{"critic_loss": 1}', "whole number as its step"),
        ('{"step": 0, "penalty": "N/A"}', "number or null"),
    ],
)
def test_lines_that_cannot_be_right_are_refused(plain, line, says):
    (plain / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(SteadyganError, match=says):
        Run.read(plain)


def test_damaged_files_are_refused_with_their_name(plain):
    (plain / "samples/step-00000100.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(SteadyganError, match=r"step-00000100\.npz cannot be read as samples"):
        write_report(plain)
    (plain / "status.json").write_text("{")
    with pytest.raises(SteadyganError, match=r"status\.json is not JSON"):
        Run.read(plain)


def test_a_run_that_was_killed_is_reported_as_far_as_it_came(plain):
    (plain / "status.json").write_text(
        '{"state": "running", "step": 0, "reason": null, "seconds": 0.0}'
    )
    (plain / "samples/step-00000500.npz").write_bytes(
        (plain / "samples/real.npz").read_bytes()[:100]
    )
    assert [held.step for held in Run.read(plain).samples] == [0, 100, 200, 300, 400]
    assert "400 of 400 steps · 8.0 s" in shown(write_report(plain))


def test_a_step_written_twice_counts_once_as_written_last(plain):
    lines(
        plain / "metrics.jsonl",
        [{"step": s, "penalty": v} for s, v in ((0, 1.0), (50, 2.0), (100, 3.0), (50, 4.0))],
    )
    penalty = Run.read(plain).logged["penalty"]
    assert (penalty.steps.tolist(), penalty.values.tolist()) == ([0, 50, 100], [1.0, 4.0, 3.0])


def test_values_that_are_not_finite_are_shown_as_such(plain):
    (plain / "metrics.jsonl").write_text(
        '{"step": 0, "critic_loss": 1.0, "penalty": null, "metrics": {"modes": 7, "sw1": 0.5}}\n'
        '{"step": 50, "critic_loss": NaN, "penalty": null, "metrics": {"modes": null, "sw1":'
        " Infinity}}\n"
    )
    run = Run.read(plain)
    assert np.isnan(run.logged["critic_loss"].values[1]) and np.isinf(run.metrics["sw1"].values[1])
    assert "penalty" not in curves([run])
    assert "not finite" in shown(write_report(plain))


def test_what_is_not_logged_before_the_first_update_is_not_marked_as_lost(plain):
    """The trainer's line of step 0 has metrics only."""
    for last, crosses in ((3.0, 0), (None, 1)):
        lines(
            plain / "metrics.jsonl",
            [{"step": s, "penalty": v} for s, v in ((0, None), (50, 1.0), (100, last))],
        )
        marks = [
            line
            for line in curves([Run.read(plain)])["penalty"].axes[0].lines
            if line.get_marker() == "x"
        ]
        assert [len(line.get_xdata()) for line in marks] == [crosses]


def test_a_run_without_metrics_and_pictures_for_samples(tmp_path):
    folder = make(tmp_path / "images", config("images"), samples=(), real=False, metrics=False)
    for name in ("step-00000000", "step-00000400", "real"):
        Image.new("RGB", (64, 64), "navy").save(folder / f"samples/{name}.png")
    page = shown(write_report(folder))
    assert "real samples" in page and "step 400" in page and "<h2>Metrics</h2>" not in page
    for name in ("step-00000000", "real"):
        picture = (folder / f"samples/{name}.png").read_bytes()
        (folder / f"samples/{name}.png").write_bytes(b"no picture")
        with pytest.raises(SteadyganError, match=f"{name}.png cannot be read as a picture"):
            write_report(folder)
        (folder / f"samples/{name}.png").write_bytes(picture)


def test_everything_from_the_folder_is_escaped(tmp_path):
    cfg = config(HOSTILE, [HOSTILE], **{HOSTILE: HOSTILE})
    cfg.update(
        command=["steadygan", HOSTILE],
        git=HOSTILE,
        started=HOSTILE,
        environment={HOSTILE: HOSTILE},
        steadygan="\ud800",
    )
    folder = make(
        tmp_path / "<b>bold",
        cfg,
        state=HOSTILE,
        warnings=[{"step": 0, "kind": HOSTILE, "message": HOSTILE}],
    )
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 500, "metrics": {HOSTILE: 1}}) + "\n")
    page = shown(write_report(folder))
    assert page.count("<script") == 1 and "<img src=x" not in page and "<b>" not in page
    assert "&lt;script&gt;alert" in page and "{{ 7*7 }}" in page
    assert not set(page) & {"\x1b", "\x9b"} and "?[31m?" in page
    assert comparison_picture([Run.read(folder)], tmp_path / "x.png").stat().st_size


def test_the_page_loads_nothing_from_elsewhere(pair):
    text = shown(pair[1])
    assert not re.search(r"https?:|url\(|@import|<link|<iframe|<object", text)
    assert set(re.findall(r'(?:src|href|srcset|action)="([^"]*)"', text)) == {"data:"}
    assert "default-src 'none'" in text


def test_the_table_holds_the_settings_that_differ_and_no_others(pair):
    folders, page, _ = pair
    assert page == folders[0].parent / "report.html"
    text = shown(page)
    table = text[text.index("What differs") : text.index("The same in all runs")]
    assert re.findall(r"<th>(\w+)</th>", table) == ["run", "regularizer"]
    assert re.findall(r'<td class="code">(.*?)</td>', table) == ["–", "js:gamma=0.1"]


def test_the_verdict_says_state_steps_time_metrics_and_warnings(pair):
    text = shown(pair[2])
    for said in (
        "finished",
        "400 of 400 steps · 1 min 33 s",
        "<dt>modes</dt><dd>6</dd>",
        "1 × collapse",
        "two modes are lost",
    ):
        assert said in text
    assert text.count("steadygan 0.1.0") == 1
    assert "steadygan train mixture3d --name &#39;a b&#39;" in text


def test_the_metrics_table_has_last_median_and_best(pair):
    text = shown(pair[2])
    row = text[text.index("sw1 <span") :]
    assert re.findall(r'<td class="value">(.*?)<', row)[:3] == ["0.002494", "0.003322", "0.002494 "]


@pytest.mark.parametrize(
    ("problem", "settings", "leads"),
    [
        ("mixture3d", {}, 2),  # of both metrics
        ("grid2d", {}, 0),
        ("mixture3d", {"features": "effnet-lite0"}, 0),
        ("mixture3d", {"metrics_samples": 500}, 0),
        ("mixture3d", {"metrics_data": "test.zip"}, 0),
    ],
)
def test_a_median_leads_among_those_that_were_measured_alike(tmp_path, problem, settings, leads):
    measured = {"features": "pixels", "metrics_samples": 2000, "metrics_data": None}
    runs = [
        make(tmp_path / "one", config(**measured), samples=[0]),
        make(tmp_path / "other", config(problem, **{**measured, **settings}), samples=[0]),
    ]
    rows = [{"step": 0, "metrics": {"modes": 1, "sw1": 2}}]
    lines(runs[1] / "metrics.jsonl", rows)
    assert shown(write_report(runs)).count('class="value leads"') == leads


def test_several_problems_stand_side_by_side(plain, tmp_path):
    dirac = make(
        tmp_path / "dirac", config("dirac"), sample=lambda rng: np.zeros((8, 1)), samples=[0, 100]
    )
    wide = make(
        tmp_path / "bilinear",
        config("bilinear"),
        sample=lambda rng: rng.normal(size=(8, 4)),
        samples=[0],
    )
    page = write_report([plain, dirac, wide], tmp_path / "new/all.html")
    assert "the first two of 4 coordinates" in shown(page)
    assert [
        len(row) for row in aligned([Run.read(folder) for folder in (plain, dirac, wide)], 9)
    ] == [5, 2, 1]


def test_runs_of_one_name_are_told_apart(tmp_path):
    seeds = [
        make(tmp_path / f"{seed}/run", config(seed=seed), samples=[0], steps=[0, 50])
        for seed in (0, 1)
    ]
    text = shown(write_report(seeds))
    assert "0/run" in text and "1/run" in text


def test_snapshots_are_aligned_by_step(tmp_path):
    long = make(tmp_path / "long", config(), samples=range(0, 401, 20))
    short = make(tmp_path / "short", config(seed=1), samples=(0, 110, 190))
    rows = aligned([Run.read(long), Run.read(short)], 5)
    assert [[held and held.step for held in row] for row in rows] == [
        [0, 100, 200, 300, 400],
        [0, 110, 190, None, None],
    ]


def test_the_same_folders_give_the_same_bytes(pair, tmp_path):
    folders, page, _ = pair
    assert write_report(folders, tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_the_comparison_picture_is_wide_light_and_not_empty(pair, tmp_path):
    path = comparison_picture([Run.read(folder) for folder in pair[0]], tmp_path / "demo.png")
    assert path.stat().st_size <= 300_000
    with Image.open(path) as image:
        assert image.width == 1200 and 400 < image.height < 900
        assert len(image.convert("RGB").getcolors(maxcolors=1 << 20)) > 20


def test_the_comparison_picture_of_noise_is_still_light(tmp_path):
    folder = make(tmp_path / "images", config("images"), samples=(), real=False)
    for step in range(5):
        noise = np.random.default_rng(step).integers(256, size=(272, 272, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"samples/step-{step}.png")
    assert (
        comparison_picture([Run.read(folder)] * 2, tmp_path / "noise.png").stat().st_size <= 300_000
    )


def test_a_comparison_without_samples_is_refused(tmp_path):
    with pytest.raises(SteadyganError, match="none of the runs has samples yet"):
        comparison_picture(
            [Run.read(make(tmp_path / "a", config(), samples=()))], tmp_path / "x.png"
        )


def test_samples_lifted_off_the_plane_of_the_data_are_seen_beside_it():
    real = ring(np.random.default_rng(0))
    lifted = real + np.array([1, 0, -1]) / np.sqrt(2)  # the normal of the plane
    view = View.of(real, [lifted])
    seen = (lifted - view.centre) @ view.axes
    np.testing.assert_allclose(seen[:, :2], view.real[:, :2], atol=1e-9)
    np.testing.assert_allclose(np.abs(seen[:, 2]), 1, atol=1e-9)
    np.testing.assert_allclose(view.real[:, 2], 0, atol=1e-9)


def test_a_view_survives_samples_that_are_all_not_finite():
    view = View.of(None, [np.full((5, 2), np.nan)])
    assert view.half == 1 and len(view.real) == 0


def test_the_view_of_a_single_real_point_is_as_wide_as_the_generated_samples():
    assert View.of(np.zeros((9, 1)), [np.array([[-2.0], [2.0]])]).half == pytest.approx(2.8)


def test_a_thinned_curve_keeps_bursts_and_breaks():
    values = np.ones(50_000)
    values[[12_345, 40_000]] = 50, np.nan
    thin = Series(np.arange(50_000), values).thinned()
    assert len(thin.steps) <= 2000 and 50 in thin.values and np.isnan(thin.values).any()
