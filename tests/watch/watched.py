"""Run folders as they grow, written by hand, and the server beside a test."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from PIL import Image

from steadygan.watch.hub import Hub
from steadygan.watch.server import _bound, _Server, application

TOKEN = "a-token-that-nobody-guesses"


def make(folder: Path, *, problem: str = "images", steps: int = 100, **settings) -> Path:
    (folder / "samples").mkdir(parents=True)
    config = {
        "problem": {"name": problem},
        "event": [3, 8, 8],
        "config": {"regularizer": [], "steps": steps, "seed": 0, **settings},
        "command": ["steadygan", "train", problem],
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_status(folder, "running")
    return folder


def write_status(folder: Path, state: str, step: int = 0) -> None:
    (folder / "status.json").write_text(json.dumps({"state": state, "step": step, "seconds": 1.0}))


def log(folder: Path, steps, **named) -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            row = {"step": step, "seconds": step / 10, "critic_loss": 0.5 * step, **named}
            file.write(json.dumps(row) + "\n")


def grid(folder: Path, name: str, colour="red") -> Path:
    path = folder / "samples" / f"{name}.png"
    Image.new("RGB", (16, 16), colour).save(path)
    return path


class Site:
    """A served page: its hub, and what it answers."""

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub, self.port = hub, port
        self.url = f"http://127.0.0.1:{port}/?token={TOKEN}"

    def ask(self, path, *, method="GET", token=TOKEN, host=None, cookie=None):
        """(status, headers, body), the token in the cookie unless there is none."""
        headers = {"Host": host or f"127.0.0.1:{self.port}"}
        if cookie is None and token is not None:
            cookie = f"steadygan-watch-{self.port}={token}"
        if cookie:
            headers["Cookie"] = cookie
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        line.request(method, path, headers=headers)
        answer = line.getresponse()
        found = answer.status, answer.headers, answer.read()
        line.close()
        return found

    @contextmanager
    def events(self) -> Iterator[Iterator[dict]]:
        """What the stream of events tells, one object after the other."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        line.request("GET", f"/events?token={TOKEN}")
        answer = line.getresponse()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield (json.loads(row[6:]) for row in answer if row.startswith(b"data: "))
        line.close()


@contextmanager
def served(*places: Path) -> Iterator[Site]:
    hub = Hub(places)
    with _bound(0) as listening:
        config = uvicorn.Config(application(hub, TOKEN), log_level="critical", lifespan="off")
        server = _Server(config)
        server.hub = hub
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Site(hub, listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(10)
        assert not thread.is_alive(), "an open stream keeps the server from ending"
