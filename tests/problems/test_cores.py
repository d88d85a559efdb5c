"""Work on all cores: the same results in threads and in processes, and nothing left behind."""

import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest

from pictures import PETS, noise, png, write, zipped
from steadygan.core.errors import SteadyganError
from steadygan.problems import cores, decoding
from steadygan.problems.cores import on_all_cores
from steadygan.problems.images import load_images

FORKS = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture(autouse=True)
def _three(monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 3)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=FORKS)])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_come_in_order(processes, count):
    found = list(on_all_cores(lambda x: (x * x, os.getpid()), range(count), processes))
    assert [square for square, _ in found] == [x * x for x in range(count)]
    others = {process for _, process in found} - {os.getpid()}
    assert len(others) == (min(count, 3) if processes and count > 1 else 0)
    assert not multiprocessing.active_children()


@FORKS
def test_a_process_that_is_killed_is_noticed_and_none_is_left():
    def work(x):
        if x == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    found = []
    with pytest.raises(SteadyganError, match="was killed, perhaps for want of memory"):
        found += on_all_cores(work, range(9), True)
    assert not multiprocessing.active_children()


@FORKS
def test_whoever_stops_listening_leaves_no_process():
    results = on_all_cores(lambda x: bytes(10**6), range(9), True)
    next(results)
    results.close()
    assert not multiprocessing.active_children()


@FORKS
def test_processes_end_with_a_parent_that_is_killed():
    told, tell = multiprocessing.Pipe(duplex=False)

    def parent():
        results = on_all_cores(lambda x: (os.getpid(), bytes(10**6)), range(30), True)
        tell.send([next(results)[0] for _ in range(3)])
        os.kill(os.getpid(), signal.SIGKILL)

    middle = multiprocessing.get_context("fork").Process(target=parent)
    middle.start()
    processes = told.recv()
    middle.join()
    assert len(set(processes)) == 3
    for _ in range(100):
        if not any(map(_alive, processes)):
            break
        time.sleep(0.05)
    assert not any(map(_alive, processes))


def _alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@FORKS
@pytest.mark.parametrize("packed", [False, True])
def test_processes_decode_the_same_images(tmp_path, monkeypatch, packed):
    monkeypatch.setattr(decoding, "_CHUNK", 2)
    deep = {f"deep/{i}.png": png(noise(9, 9, seed=i).astype(np.uint16) * 16) for i in range(5)}
    files = PETS | deep | {"ape/0.png": b"broken", "dog/big.png": png(noise(200, 200, 3))}
    found = []
    for many in (10**9, 1):
        monkeypatch.setattr(decoding, "MANY", many)
        for limit in (1.0, 3e5 / 2**30):  # of which a third is less than the big picture takes
            folder = tmp_path / f"{many}-{limit}"
            path = zipped(folder.with_suffix(".zip"), files) if packed else write(folder, files)
            found.append(load_images(path, 8, broken="skip", limit=limit))
    for other in found[1:]:
        np.testing.assert_array_equal(other.pixels, found[0].pixels)
        np.testing.assert_array_equal(other.labels, found[0].labels)
        assert [b.rpartition("/")[2] for b in other.broken] == [
            b.rpartition("/")[2] for b in found[0].broken
        ]
