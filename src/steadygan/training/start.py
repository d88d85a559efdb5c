"""Training begins, or goes on: to a run folder.

From a problem and a configuration, or from a run folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..core.errors import SteadyganError
from ..core.gradients import Decision
from ..core.players import PLAYERS
from ..problems.networks import count_parameters
from ..problems.problem import Problem
from ..runs import checkpoint
from ..runs.config import Config, names_code, problem_from_json, problem_to_json
from ..runs.description import Description, describe
from ..runs.folder import RunFolder
from ..runs.format import CONFIG, STATUS, TRACKERS
from ..runs.lock import held
from ..runs.members import alike
from ..runs.models import build_networks
from .changes import adapted, changed
from .dealt import fleet
from .loop import Training
from .outcome import MemberOutcome, Outcome
from .ranks import Ranks, here
from .single import Single
from .trained import Trained
from .watchers import Watcher, notebook, track
from .watchers.folder import FolderWatcher
from .watchers.gamma import GammaWatcher
from .watchers.judge import Judge, JudgeWatcher
from .watchers.monitor import MonitorWatcher
from .watchers.notebook import NotebookWatcher
from .watchers.terminal import Show, TerminalWatcher, bar, load
from .watchers.track import TrackWatcher


def train(
    problem: Problem,
    config: Config,
    out: Path | str,
    *,
    show: Show = True,
    init: Path | str | None = None,
    judge: Judge | None = None,
    watchers: Sequence[Watcher] = (),
) -> Outcome:
    """Train a problem into a new run folder, from scratch or from another run's networks.

    Whatever cannot work is refused before anything is computed or written.

    Args:
        problem: What is played.
        config: How; what it leaves open is the problem's own.
        out: The run folder to make.
        show: A bar or lines on standard error, a live picture in a "notebook", or nothing.
        init: A run whose networks, at its newest checkpoint, are the start of this one's; its
            optimizers and streams of randomness are not.
        judge: Measures samples at each evaluation; the best is kept beside the newest checkpoints.
        watchers: What else looks on, see ``steadygan.training.watchers``.

    Returns:
        How the run ended.

    Raises:
        SteadyganError: For settings that do not fit together, for a folder that exists, and for one
            that cannot be written; the newest checkpoint is then the one to resume from.
    """
    path, ranks = Path(out), here()
    show = show if ranks.first else False
    RunFolder.check(path)
    config = config.resolve(problem)
    _ready(config.track, show)
    # A resolution that the network cannot make is refused before images are read.
    build_networks(config, problem.event, classes=0)
    load(problem, show)
    single = Single(problem, config, ranks=ranks)
    more: dict[str, Any] = {"critic_gradient": single.decision._asdict()}
    if init is not None:
        more["init"] = single.begin_from(Path(init))
    about = describe(problem, [config], _sizes(single), fleet=False, **more)
    return _begun(single, path, about, show, judge, watchers)


def train_fleet(
    problem: Problem,
    members: Sequence[Config],
    out: Path | str,
    *,
    compiled: bool = False,
    show: Show = True,
    judge: Judge | None = None,
    watchers: Sequence[Watcher] = (),
) -> Outcome:
    """Train many GANs at once into one new run folder.

    Each is the same GAN as trained alone, its steps equal up to rounding.

    Args:
        problem: What is played.
        members: Of one structure; they may differ in seed, strengths and learning rates.
        out: The run folder to make.
        compiled: A minute more at the start, then faster.
        show: A bar or lines on standard error, a live picture in a "notebook", or nothing.
        judge: Measures every member's samples at each evaluation; each one's best is kept.
        watchers: What else looks on, see ``steadygan.training.watchers``.

    Returns:
        How the whole and every member ended.

    Raises:
        SteadyganError: Before anything is written, for members that differ in anything else, for
            networks that cannot be evaluated for many GANs at once, and as ``train``.

    Example::

        train_fleet(
            build("problem", "mixture3d"),
            grid(Config(regularizer=("js:gamma={0.1,1}",)), seeds=16),
            "runs/gammas",
        )
    """
    path, ranks = Path(out), here()
    show = show if ranks.first else False
    RunFolder.check(path)
    resolved = alike(problem, members)
    _ready(resolved[0].track, show, len(resolved))
    load(problem, show)
    many = fleet(problem, resolved, ranks, compiled=compiled)
    decided = {"critic_gradient": many.decision._asdict()}
    about = describe(problem, resolved, _sizes(many), fleet=True, compiled=compiled, **decided)
    return _begun(many, path, about, show, judge, watchers)


def resume(
    run: Path | str,
    *,
    steps: int | None = None,
    data: str | None = None,
    limit: float | None = None,
    features: str | None = None,
    changes: Mapping[str, Any] | None = None,
    start: Path | str | None = None,
    track: Sequence[str] | None = None,
    show: Show = True,
    judge: Judge | None = None,
    watchers: Sequence[Watcher] = (),
) -> Outcome:
    """Continue a run, of one GAN or of many, from its newest checkpoint.

    With the same bits as if it had never stopped. One that was killed before its first checkpoint
    begins anew; of many GANs those that had stopped stay so. What is changed on the way is kept in
    the folder's history.

    Args:
        run: The run folder.
        steps: How many steps it shall have in the end, by default as it was planned.
        data: Where its data lie now, which may be others than those it began with.
        limit: GiB that one of its files may unpack to, given again where that is more than usual.
        features: What it is measured in, given again where that is a file of one's own: a folder
            may be a stranger's, and what it names is not run.
        changes: New values of settings, by the names of ``Config``: regularizer, smoothing,
            optimizer, critic_optimizer (and so learning rates), ramp, batch, device.
        start: One of the run's checkpoints to go on from instead of the newest; what was made
            after it is dropped.
        track: Trackers to show it in instead of those it was begun with, which go on else.
        show: A bar or lines on standard error, a live picture in a "notebook", or nothing.
        judge: As in ``train``.
        watchers: As in ``train``.

    Returns:
        How the run ended.

    Raises:
        SteadyganError: Where there is nothing to continue, where the data have changed and were
            not given, where code would have to be run that only the folder names, where another
            process trains it, for a checkpoint that is damaged, and as ``train``.
    """
    folder, ranks = RunFolder.open(Path(run)), here()
    show = show if ranks.first else False
    with held(folder.path) if ranks.first else nullcontext():
        about = folder.describe()
        at, tree = _held(folder.path, start)
        problem, other = _found_again(about, data, limit, show)
        now = about.members
        now = now if track is None else [replace(member, track=tuple(track)) for member in now]
        members, differs = changed(problem, now, changes or {}, steps)
        _ready(members[0].track, show, len(members))
        members = [replace(member, features=_trusted(about, features, judge)) for member in members]
        ended = (folder.path / STATUS).is_file() and folder.read(STATUS).get("state")
        network = members[0].network
        if tree is not None:
            over = ended in ("finished", "stopped")
            with checkpoint.fitting(at, network):
                _check_unfinished(tree, members[0].steps or 0, over, run)
        trained = _rebuilt(about, problem, members, ranks, decide="regularizer" in differs)
        if ranks.first:
            judge = _judge(problem, members[0], judge, show)
            training = _training(trained, folder.path, show, judge, watchers)
        else:
            training = Training(trained, [])
        if tree is not None:
            with checkpoint.fitting(at, network):
                training.restore(adapted(tree, trained, about.config))
        if ended == "stopped" and not trained.many:
            trained.stopped.clear()  # it is told to go on where it had stopped
        if len(set(ranks.each(training.step))) > 1:  # all have read the folder
            raise SteadyganError(
                f"The processes do not find the same newest checkpoint in {folder.path}: wait until"
                " all machines see the same files, then start again."
            )
        if not ranks.first:
            return _outcome(training, folder.path)
        dropped = folder.rewind(training.step, tree)
        for watcher in training.watchers:
            if isinstance(watcher, JudgeWatcher):
                watcher.forget(dropped)
        told: dict[str, Any] = {"problem": problem_to_json(problem), "data": problem.describe()}
        if other or differs:
            entry = {"step": training.step, **({"data": other} if other else {})}
            entry |= {"changed": differs} if differs else {}
            told["history"] = [*about.history, entry]
        told["critic_gradient"] = trained.decision._asdict()
        folder.write(CONFIG, {**about.raw, "config": members[0].to_json(), **told})
        return _outcome(training, folder.path)


def _ready(trackers: Sequence[str], show: Show, members: int = 1) -> None:
    """Raise SteadyganError where what is to look on cannot work here."""
    track.check(trackers, members)
    if show == "notebook":
        notebook.check()


def _held(folder: Path, start: Path | str | None) -> tuple[Path, checkpoint.Tree | None]:
    """Return where the checkpoint to go on from lies, and it; None where there is none yet."""
    known = checkpoint.checkpoints(folder)
    if start is not None:
        if Path(start).resolve() not in [path.resolve() for path in known]:
            there = ", ".join(str(path) for path in known) or "none"
            raise SteadyganError(f"{start} is no checkpoint of {folder}; there are {there}.")
        return Path(start), checkpoint.load(Path(start))
    if not known:
        RunFolder(folder).check_unbegun()
        return folder, None
    try:
        return known[-1], checkpoint.load(known[-1])
    except SteadyganError as error:
        if len(known) < 2:
            raise
        older = f"steadygan resume {folder} --from {known[-2]}"
        raise SteadyganError(f"{error} Go on from the one before it: {older}") from error


def _judge(problem: Problem, config: Config, given: Judge | None, show: Show) -> Judge | None:
    """Return the judge that was given, else the one that the configuration's metrics ask for."""
    if given is not None or not config.metrics:
        return given
    # Evaluation is a room beside this one: like the names of the registry it is known as text, and
    # imported by who asks for it.
    evaluation = importlib.import_module(f"{__package__.partition('.')[0]}.evaluation")
    found: Judge = evaluation.judge(problem, config, partial(bar, show=show))
    return found


def _trusted(about: Description, given: str | None, judge: Judge | None) -> str:
    """Return what a run is measured in, given again where that is code."""
    held = about.config.features
    code = names_code(held)
    if given is not None and given != held and not code:
        raise SteadyganError(f"{about.folder} is measured in {held}: leave the features out.")
    if code and given is None and judge is None and about.config.metrics:
        raise SteadyganError(
            f"{about.folder} names code that it is measured with, {held}, which is not run because"
            f" a folder says so: look at it, and give it again with --features {held}"
        )
    return given or held


def _found_again(
    about: Description, data: str | None, limit: float | None, show: Show
) -> tuple[Problem, dict[str, Any]]:
    """Return a run's problem with its data read, and what is to be remembered of a change.

    Raises:
        SteadyganError: For data that have changed, unless they were given, and for such as the
            run's networks cannot take.
    """
    problem = about.problem()
    given = {"data": data, "limit": limit}
    given = {name: value for name, value in given.items() if value is not None}
    if given:
        if "data" not in about.setting:
            raise SteadyganError(
                f"{about.folder} plays {about.setting['name']}, which makes its own samples: leave"
                f" the {' and the '.join(given)} out."
            )
        problem = problem_from_json({**problem_to_json(problem), **given})
    load(problem, show)
    with about.sound("what it says of its data"):
        changes = problem.changes(about.data) if about.data else []
    if changes and data is None:
        where = about.setting["data"]
        raise SteadyganError(
            f"The data of {about.folder} have changed: {'; '.join(changes)}. Put back what was"
            f" there, or go on with what is there now: --data {where}"
        )
    if problem.classes != about.classes:
        raise SteadyganError(
            f"{about.folder} was trained on {about.classes} classes, and its data have"
            f" {problem.classes} now: its networks do not fit. Give data of as many classes."
        )
    moved = data is not None and data != about.setting["data"]
    return problem, {"from": about.setting["data"], "changes": changes} if changes or moved else {}


def _check_unfinished(tree: checkpoint.Tree, total: int, said: bool, run: Path | str) -> None:
    """Refuse a run that has made its steps, unless it was killed before its status ``said`` so.

    And in any case one that has made more.
    """
    left = "alive" not in tree or bool(tree["alive"].any())
    if (left and tree["step"] < total) or (not said and tree["step"] <= total):
        return
    if not left:
        raise SteadyganError(f"{run} has no member left.")
    raise SteadyganError(
        f"{run} has already made its {tree['step']} steps: give more with --steps to extend it."
    )


def _rebuilt(
    about: Description, problem: Problem, members: Sequence[Config], ranks: Ranks, decide: bool
) -> Trained:
    if about.is_fleet:
        # Fleets that do not say it were begun when there was one path for them.
        decision = about.decision or Decision("separate")
        return fleet(problem, members, ranks, compiled=about.compiled, decision=decision)
    return Single(problem, members[0], None if decide else about.decision, ranks)


def _begun(
    trained: Trained,
    path: Path,
    about: dict[str, Any],
    show: Show,
    judge: Judge | None,
    watchers: Sequence[Watcher],
) -> Outcome:
    """Make the folder, which rank zero does, and train.

    Returns:
        How the run ended.
    """
    ranks = trained.ranks
    if not ranks.first:
        ranks.meet()
        return _outcome(Training(trained, []), path)
    judge = _judge(trained.problem, trained.config, judge, show)
    training = _training(trained, path, show, judge, watchers)
    ranks.meet()  # all have looked, and found no folder
    with held(path):
        RunFolder.create(path, about)
        return _outcome(training, path)


def _training(
    trained: Trained, path: Path, show: Show, judge: Judge | None, more: Sequence[Watcher]
) -> Training:
    """Return a run with its watchers: those that measure before those that show.

    The one that may end it is last.
    """
    measure = [JudgeWatcher(judge, trained)] if judge is not None else []
    # One that was tracked before and is no more has to forget it.
    known = trained.config.track or (path / TRACKERS).is_file()
    tracked = [TrackWatcher(trained.config.track, path)] if known else []
    at_screen = NotebookWatcher(path) if show == "notebook" else TerminalWatcher(path.name, show)
    shown = [*tracked, FolderWatcher(RunFolder(path)), at_screen]
    return Training(trained, [*measure, *shown, *more, MonitorWatcher(trained), GammaWatcher()])


def _outcome(training: Training, path: Path) -> Outcome:
    trained, ending = training.trained, training.run()
    each = zip(trained.members, trained.endings(ending.state), trained.metrics, strict=True)
    trained.ranks.meet()  # the folder is whole for whoever goes on
    members = tuple(MemberOutcome(config, *ended, metrics) for config, ended, metrics in each)
    return Outcome(
        path, ending.state, training.step, ending.reason, members if trained.many else ()
    )


def _sizes(trained: Trained) -> dict[str, int]:
    """Return how many numbers each player of a GAN learns."""
    return {
        name: count_parameters(getattr(trained.players, name)) // len(trained.members)
        for name in PLAYERS
    }
