"""The live page in a real browser: a run trains beside it, and it moves."""

import threading

import numpy as np
import pytest
from watched import grid, log, make, served

from browser import CHROMIUM, browser
from steadygan.problems.images import Images
from steadygan.runs import files
from steadygan.training import Config, Watcher, train

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="the page is not looked at: there is no chromium (apt install chromium)",
)


@pytest.fixture(scope="module")
def tab():
    with browser() as tab:
        yield tab


class Halt(Watcher):
    """Keeps a training at a step until it may go on."""

    def __init__(self, step):
        self.step, self.reached, self.go = step, threading.Event(), threading.Event()

    def stepped(self, training):
        if training.step == self.step:
            self.reached.set()
            assert self.go.wait(60)


def quiet(tab, site):
    """Nothing was complained about, and nobody else was asked."""
    assert tab.troubles == []
    here = (f"http://127.0.0.1:{site.port}/", "data:,", "about:blank")
    assert [url for url in tab.asked if not url.startswith(here)] == []


POINTS = "curves.get('0||critic_loss')?.step.length ?? 0"
PICTURE = "(find('.newest img')?.naturalWidth ?? 0) && find('.newest figcaption').textContent"


def test_the_page_moves_while_a_run_trains(tab, tmp_path):
    place, halt = tmp_path / "run", Halt(20)
    config = Config(
        network="dcgan:width=4", steps=40, batch=8, latent=8, log_every=4, evaluate_every=20
    )
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    images = Images(data=str(tmp_path / "pixels.npy"), resolution=8, channels=1)
    training = threading.Thread(
        target=train, args=(images, config, place), kwargs={"show": False, "watchers": [halt]}
    )
    with served(place) as site:
        tab.open(site.url)
        tab.until("find('.badge')?.textContent === 'waiting'")
        training.start()
        assert halt.reached.wait(60)
        first = tab.until(POINTS)
        assert tab.until(PICTURE) in ("newest: step 0", "newest: step 20")
        assert tab.until("find('.badge').textContent === 'running'")
        path = "document.querySelectorAll('.plot .data path')[0].getAttribute('d')"
        drawn = tab.js(path)
        halt.go.set()
        training.join(60)
        tab.until("find('.badge').textContent === 'finished'")
        assert tab.until(POINTS) > first and tab.js(path) != drawn
        tab.until(f"({PICTURE}) === 'newest: step 40'")
        # The earlier samples are chosen by the keyboard too.
        tab.js("find('#samples input').value = 0; find('#samples input').oninput()")
        tab.until("find('.older figcaption').textContent === 'step 0'")
        assert tab.js("find('.real img').naturalWidth") == 64
        quiet(tab, site)
    # The server has gone, which the page tells.
    tab.until("find('#link').classList.contains('bad')")


def test_hostile_names_stay_names_and_a_phone_needs_no_scrolling(tab, tmp_path):
    tab.troubles.clear()
    tab.asked.clear()
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    runs = [make(tmp_path / f"{hostile.replace('/', '_')}{i}", seed=i) for i in range(3)]
    for i, run in enumerate(runs):
        log(run, range(0, 3000, 2), metrics={hostile: 1e-7 * 10**i, "fd": None})
        grid(run, "step-00000010")
        files.append(run / "warnings.jsonl", {"step": 9, "kind": hostile, "message": hostile})
    with served(*runs) as site:
        for width, dark in ((390, True), (1200, False)):
            tab.open(site.url, width=width, dark=dark)
            tab.until("curves.size && document.querySelectorAll('.plot .data path').length")
            assert tab.js("document.documentElement.scrollWidth") <= width
            assert tab.js("document.querySelectorAll('img[src=x], main script').length") == 0
            assert tab.js("find('#warnings td:nth-child(3)').textContent") == hostile
            background = tab.js("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(17, 19, 23)") is dark
        # A curve is read by the keyboard, and a run hidden by its name.
        label = "find('.plot svg').getAttribute('aria-label')"
        press = "find('.plot svg').dispatchEvent(new KeyboardEvent('keydown', {key: 'Home'}))"
        tab.js(press)
        assert "at step 0" in tab.js(label)
        lines = "document.querySelectorAll('.plot .data path').length"
        before = tab.js(lines)
        tab.js("find('button.chip').click()")
        assert tab.js(lines) < before
        assert tab.js("find('button.chip').getAttribute('aria-pressed')") == "false"
        quiet(tab, site)
