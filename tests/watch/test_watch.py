"""The live page: what it tells of runs that grow, restart or go, to whom, and nothing else."""

import json
import math
import os
import random
import socket
import subprocess
import sys

import numpy as np
import pytest
from watched import TOKEN, grid, log, make, served, write_status

from steadygan import SteadyganError
from steadygan.cli import main
from steadygan.runs import files
from steadygan.watch.curves import Curve
from steadygan.watch.following import Followed
from steadygan.watch.hub import Hub, Page

HOSTILE = """<script>alert("x")</script><img src=x onerror=alert(1)>'"""


class Follower:
    """A page without a browser: it keeps what it is told by the one rule of watch.js."""

    def __init__(self, hub):
        self.hub, self.page, self.runs = hub, Page(), {}
        self.curves: dict = {}
        self.told: dict = {}

    def hear(self):
        """Look until there is nothing more; return all that was told."""
        heard, more = [], True
        while more:
            self.hub._looked = -math.inf
            news, more = self.hub.news(self.page)
            json.dumps(news, allow_nan=False)
            heard.append(news)
            self.runs = {each["id"]: each for each in news.get("runs", [])} or self.runs
            for run, parts in news.get("told", {}).items():
                if parts.pop("anew", False):
                    self.curves = {key: v for key, v in self.curves.items() if key[0] != run}
                for told in parts.pop("curves", []):
                    key, start = (run, told.pop("line"), told.pop("name")), told.pop("from")
                    held = self.curves.setdefault(key, {column: [] for column in told})
                    for column, values in told.items():
                        held[column][start:] = values
                self.told.setdefault(run, {}).update(parts)
        return heard

    def steps(self, run=0, name="critic_loss"):
        return self.curves.get((run, "", name), {"step": []})["step"]


def test_thinning_keeps_every_extreme_and_the_mean():
    draws, curve = random.Random(3), Curve(band=True)
    rows = [[draws.gauss(0, 1) for _ in range(3)] for _ in range(1111)]
    for step, row in enumerate(rows):
        curve.add(10 * step, *sorted(row))
    width = curve.width(100)
    assert width == 16 and curve.width(1111) == 1
    told, sides = curve.since(0, width), np.sort(np.array(rows), axis=1)
    assert told["step"] == list(range(0, 11110, 160)) and not any(told["lost"])
    for i in range(len(told["step"])):
        part = sides[i * width : (i + 1) * width]
        expected = part[:, 0].min(), part[:, 1].mean(), part[:, 2].max()
        assert [told[name][i] for name in ("low", "mid", "high")] == pytest.approx(
            expected, rel=5e-5, abs=1e-9
        )


def test_what_is_not_finite_is_marked_and_is_no_number():
    curve = Curve()
    for step, value in enumerate((1.0, math.nan, math.nan, math.nan, 3.0)):
        curve.add(step, value)
    told = curve.since(0, 2)
    assert told["mid"] == [1.0, None, 3.0] and told["high"] == [1.0, None, 3.0]
    assert told["lost"] == [True, True, False]


def test_increments_add_up_to_the_curve_however_it_grows(tmp_path):
    run, draws = make(tmp_path / "run", steps=5000), random.Random(0)
    hub = Hub([run])
    page, step = Follower(hub), 0
    while step < 2500:
        more = draws.randrange(1, 400)
        log(run, range(step, step + more))
        step += more
        page.hear()
        curve = hub.runs[0].curves["critic_loss", ""]
        assert len(curve) == step
        whole = curve.since(0, curve.width())
        whole.pop("from")
        assert page.curves[0, "", "critic_loss"] == whole
    assert len(page.steps()) <= 600
    # What is told after one more row is that row's bucket, and nothing else.
    log(run, [step])
    (news,) = page.hear()
    assert len(json.dumps(news)) < 1000


def test_a_page_hears_of_growth_once(tmp_path):
    run = make(tmp_path / "run")
    page = Follower(Hub([run]))
    log(run, range(0, 20, 10))
    grid(run, "step-00000010")
    page.hear()
    assert page.steps() == [0, 10] and page.told[0]["samples"]["steps"] == [10]
    assert page.told[0]["state"]["left"] == pytest.approx(90 / 10)  # 10 steps a second
    assert page.hear() == [{}]
    log(run, [20], metrics={"fd": 3.25})
    grid(run, "step-00000020")
    files.append(run / "warnings.jsonl", {"step": 20, "kind": "collapse", "message": "all alike"})
    page.hear()
    assert page.steps() == [0, 10, 20] and page.steps(name="metric fd") == [20]
    assert page.told[0]["state"]["metrics"] == {"fd": "3.25"}
    assert page.told[0]["samples"]["steps"] == [10, 20]
    (seen,) = page.told[0]["warnings"]
    assert seen["message"] == "all alike" and "gradient penalty" in seen["advice"]
    write_status(run, "finished", 100)
    page.hear()
    state = page.told[0]["state"]
    assert (state["state"], state["step"], state["left"]) == ("finished", 100, None)


def test_a_page_that_comes_later_hears_the_whole(tmp_path):
    run = make(tmp_path / "run")
    log(run, range(30))
    hub = Hub([run])
    first = Follower(hub)
    first.hear()
    later = Follower(hub)
    later.hear()
    assert later.curves == first.curves and later.told == first.told


def test_a_long_file_comes_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("steadygan.watch.following._BLOCK", 500)
    run = make(tmp_path / "run")
    log(run, range(100))
    page = Follower(Hub([run]))
    assert len(page.hear()) > 5 and page.steps() == list(range(100))


def test_rows_that_are_rolled_back_are_dropped(tmp_path):
    run = make(tmp_path / "run")
    log(run, range(0, 60, 10))
    page = Follower(Hub([run]))
    page.hear()
    # Resumed from step 20: the rows after it are computed again.
    files.keep_lines(run / "metrics.jsonl", lambda row: row["step"] <= 20)
    page.hear()
    assert page.steps() == [0, 10, 20]
    log(run, [30, 40])
    page.hear()
    # It went further than before between two looks.
    files.keep_lines(run / "metrics.jsonl", lambda row: row["step"] <= 20)
    log(run, [25, 35, 45, 55, 65])
    page.hear()
    assert page.steps() == [0, 10, 20, 25, 35, 45, 55, 65]


def test_a_run_that_is_not_there_is_waited_for_and_one_that_goes_stays_on_the_page(tmp_path):
    place = tmp_path / "later"
    page = Follower(Hub([place]))
    page.hear()
    assert page.told[0]["state"]["state"] == "waiting"
    log(make(place), range(3))
    page.hear()
    assert page.told[0]["state"]["state"] == "running" and page.steps() == [0, 1, 2]
    place.rename(tmp_path / "elsewhere")
    page.hear()
    assert page.told[0]["state"]["state"] == "gone" and page.steps() == [0, 1, 2]
    log(make(place, seed=1), [7])  # another run in the same place
    page.hear()
    assert page.told[0]["state"]["state"] == "running" and page.steps() == [7]


def test_a_folder_of_runs_shows_those_that_come(tmp_path):
    page = Follower(Hub([tmp_path / "sweep"]))
    page.hear()
    assert [run["name"] for run in page.runs.values()] == ["sweep"]
    make(tmp_path / "sweep" / "a" / "seed-0", batch=8)
    make(tmp_path / "sweep" / "b", batch=9)
    page.hub._searched = -math.inf
    heard = page.hear()
    assert [run["name"] for run in page.runs.values()] == ["a/seed-0", "b"]
    settings = next(news["settings"] for news in reversed(heard) if "settings" in news)
    assert list(settings["differing"]) == ["batch"]
    assert set(settings["differing"]["batch"].values()) == {"8", "9"}
    make(tmp_path / "sweep" / "c")
    page.hub._searched = -math.inf
    page.hear()
    assert [run["name"] for run in page.runs.values()] == ["a/seed-0", "b", "c"]


def test_many_gans_at_once_are_a_line_and_a_band_for_each_setting(tmp_path):
    run = make(tmp_path / "fleet")
    config = json.loads((run / "config.json").read_text())
    members = [{"regularizer": [r], "seed": k} for r in ("r1", "r2") for k in range(3)]
    (run / "config.json").write_text(json.dumps({**config, "fleet": {"members": members}}))
    losses = [1.0, 2.0, 4.0, 10.0, None, 30.0]
    files.append(run / "metrics.jsonl", {"step": 5, "seconds": 1.0, "critic_loss": losses})
    page = Follower(Hub([run]))
    page.hear()
    first, second = page.runs[0]["lines"]
    told = page.curves[0, first, "critic_loss"]
    assert (told["low"], told["mid"], told["high"]) == ([1.5], [2.0], [3.0])
    assert page.curves[0, second, "critic_loss"]["mid"] == [20.0]


def evaluated(run, *kept, **number):
    about = dict.fromkeys(("features", "preparation", "fingerprint", "data"), "x") | {"seed": 0}
    about |= {"samples": 10, "records": {}, "notes": []}
    number = {"name": "FD", "better": "less", **number}
    kept = [{**about, "numbers": {"fd": number}, **each} for each in kept]
    (run / "evaluation.json").write_text(json.dumps({"evaluations": kept}))


def test_evaluations_carry_their_intervals(tmp_path):
    run = make(tmp_path / "run")
    evaluated(run, {"step": 50}, low=2.5, value=3.0, high=4.0)
    log(run, [1], metrics={"kid": 2.0, "spread": 1.0}, intervals={"kid": [1.5, 2.25]})
    page = Follower(Hub([run]))
    page.hear()
    told = [page.curves[0, "", f"metric {name}"] for name in ("kid", "spread")]
    assert [[each[end] for end in ("low", "mid", "high")] for each in told] == [
        [[1.5], [2.0], [2.25]],
        [[1.0], [1.0], [1.0]],
    ]
    told = page.curves[0, "", "evaluated FD"]
    assert (told["step"], told["low"], told["mid"], told["high"]) == ([50], [2.5], [3.0], [4.0])


def test_evaluations_by_other_protocols_are_other_curves(tmp_path):
    run = make(tmp_path / "run")
    test, more = {"data": "/far/test.zip"}, {"samples": 5000, "fingerprint": "y"}
    here = [{**test, "step": 100}, {**test, "step": 50}, {**test, **more, "step": 50}]
    number = {"low": 2.5, "value": 3.0, "high": 4.0}
    told = {}
    for kept in (here, [*here, {**more, "data": "train.zip", "fingerprint": "z", "step": 70}]):
        evaluated(run, *kept, **number)
        page = Follower(Hub([run]))
        page.hear()
        told |= {name: c["step"] for (*_, name), c in page.curves.items() if "evaluated" in name}
    assert told == {
        "evaluated FD, 10 samples": [50, 100],
        "evaluated FD, 5,000 samples": [50],
        "evaluated FD, 10 samples, test.zip": [50, 100],
        "evaluated FD, 5,000 samples, test.zip": [50],
        "evaluated FD, 5,000 samples, train.zip": [70],
    }


def test_a_run_whose_process_is_no_more_is_not_running(tmp_path):
    run = make(tmp_path / "run")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid, state in ((dead.pid, "killed"), (os.getpid(), "running")):
        lock = {"pid": pid, "host": socket.gethostname(), "since": ""}
        (run / ".lock").write_text(json.dumps(lock))
        page = Follower(Hub([run]))
        page.hear()
        assert page.told[0]["state"]["state"] == state


def test_a_damaged_run_is_told_and_the_others_go_on(tmp_path):
    good, bad = make(tmp_path / "good"), make(tmp_path / "bad")
    log(good, [1])
    (bad / "metrics.jsonl").write_text('{"step": 1}\n[]\n')
    page = Follower(Hub([good, bad]))
    page.hear()
    assert page.steps(0) == [1]
    assert "line 2 must be a JSON object" in page.told[1]["state"]["reason"]
    (bad / "metrics.jsonl").write_text('{"step": 1, "penalty": 3}\n')
    page.hear()
    assert page.told[1]["state"]["reason"] is None and page.steps(1, "penalty") == [1]


def nonsense(file, **entries):
    return lambda run: (run / file).write_text(
        json.dumps({**json.loads((run / file).read_text()), **entries})
    )


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (nonsense("config.json", event=None), "event must be a list"),
        (nonsense("status.json", reason=math.nan), "reason must be a text"),
        (lambda run: log(run, [7], seconds=math.nan), None),
    ],
)
def test_no_nonsense_in_one_run_stops_the_others(tmp_path, damage, why):
    bad, good = make(tmp_path / "bad"), make(tmp_path / "good")
    log(bad, [0])
    damage(bad)
    log(good, [1])
    page = Follower(Hub([bad, good]))
    for step in (2, 3):
        page.hear()
        assert page.steps(1)[-1] == step - 1
        reason = page.told[0]["state"]["reason"]
        assert reason is None if why is None else why in reason
        log(good, [step])
        log(bad, [100 + step])  # what is damaged stays so though something else changes


def test_whatever_goes_wrong_with_one_run_does_not_stop_the_others(tmp_path, monkeypatch):
    bad, good = make(tmp_path / "bad"), make(tmp_path / "good")
    log(good, [1])
    read = Followed._read

    def fails(self, marks):
        return [][3] if self.name == "bad" else read(self, marks)

    monkeypatch.setattr(Followed, "_read", fails)
    page = Follower(Hub([bad, good]))
    page.hear()
    assert page.steps(1) == [1] and "it is damaged" in page.told[0]["state"]["reason"]


def test_links_out_of_a_run_folder_are_not_followed(tmp_path):
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"config": {"password": "hunter2"}, "step": 1}))
    linked, own = make(tmp_path / "linked"), make(tmp_path / "own")
    (linked / "config.json").unlink()
    (linked / "config.json").symlink_to(secret)
    (own / "samples" / "step-00000001.png").symlink_to(grid(linked, "real"))
    page = Follower(Hub([linked, own]))
    assert "hunter2" not in json.dumps(page.hear())
    assert "link out of the run folder" in page.told[0]["state"]["reason"]
    assert page.hub.picture(1, 1) is None and page.hub.picture(1, None) is None


# ------------------------------------------------------------ the server


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = make(folder / HOSTILE.replace("/", "_"), regularizer=[HOSTILE])
    log(run, range(5))
    grid(run, "step-00000004", "blue")
    grid(run, "real")
    (run / "samples" / "step-00000002.png").write_text("<html>no picture")
    files.append(run / "warnings.jsonl", {"step": 1, "kind": HOSTILE, "message": HOSTILE})
    with served(run) as site, site.events() as events:
        next(events)
        yield site


def test_only_who_knows_the_token_is_answered(site):
    for path in ("/", "/watch.js", "/events", "/samples/0/4", "/nothing"):
        for token in (None, "", "wrong", TOKEN[:-1], TOKEN + "x"):
            status, _, body = site.ask(path, token=token)
            assert status == 403 and b"token" in body and TOKEN.encode() not in body
            assert site.ask(f"{path}?token={token or ''}", token=None)[0] in (400, 403)
    status, headers, _ = site.ask(f"/?token={TOKEN}", token=None)
    assert status == 200
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert site.ask("/watch.js", cookie=cookie.partition(";")[0])[0] == 200


def test_a_name_that_was_made_to_point_here_is_refused(site):
    for host in ("evil.example", "evil.example:8817", "127.0.0.1.evil.example", "0.0.0.0"):
        assert site.ask("/", host=host)[0] == 400
    for host in ("localhost:9000", "127.0.0.1"):  # as through a tunnel
        assert site.ask("/", host=host)[0] == 200


def test_every_answer_keeps_the_browser_here(site):
    for path, token in (("/", TOKEN), ("/page.css", TOKEN), ("/samples/0/4", TOKEN), ("/", None)):
        headers = site.ask(path, token=token)[1]
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
    for name in ("/", "/watch.js", "/watch.css", "/page.css"):
        text = site.ask(name)[2].decode().replace("http://www.w3.org/2000/svg", "")  # a name
        assert "http:" not in text and "https:" not in text and "//cdn" not in text
        assert "innerHTML" not in text


def test_nothing_can_be_written(site):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/", "/events", "/samples/0/4"):
            assert site.ask(path, method=method)[0] == 405


def test_nothing_but_samples_is_handed_out(site):
    status, headers, body = site.ask("/samples/0/4")
    assert status == 200 and headers["Content-Type"] == "image/png" and body[1:4] == b"PNG"
    assert site.ask("/samples/0/real")[2] != body
    for path in (
        "/samples/0/2",  # no picture, whatever its name
        "/samples/0/3",
        "/samples/1/4",
        "/samples/-1/4",
        "/samples/0/..%2fconfig.json",
        "/samples/0/../config.json",
        "/samples/..%2f..%2fetc/4",
        "/config.json",
        "/..%2fcli%2f__init__.py",
        "/../report/page.py",
        "/%2e%2e/server.py",
        "/server.py",
        "/page.html/..",
    ):
        status, _, body = site.ask(path)
        assert status == 404 and b"import" not in body and b"regularizer" not in body, path


def test_a_stream_tells_what_grows(tmp_path):
    run = make(tmp_path / "run")
    log(run, [0])
    with served(run) as site, site.events() as events:
        first = next(events)
        assert first["runs"][0]["name"] == "run" and "anew" in first["told"]["0"]
        log(run, [10])
        (curve,) = next(events)["told"]["0"]["curves"]
        assert curve["from"] == 1 and curve["step"] == [10]


def test_a_port_that_is_taken_is_said(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["watch", "runs/x", "--port", str(port), "--no-browser"]) == 2
    assert f"Port {port} is taken" in capsys.readouterr().err
    with pytest.raises(SteadyganError, match="65535"):
        from steadygan.watch.server import watch

        watch(["runs/x"], 70000)
