"""A diagnosis in words, and the one change to try first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from .limits import Limits
from .triage import Fact, cause
from .trials import ROUNDS, Arm, Trial
from .trials.change import Change

if TYPE_CHECKING:
    from .doctor import Diagnosis

UNDAMPED = 1e-3
"""Damping -Re/|λ| below which an eigenvalue turns for so long that it counts as not damped."""

MATERIAL = 0.1
"""The share of the distance that a change of a GAN of which nothing is wrong must take away."""

LARGE_GAIN = 0.2
"""Share of its loss that the critic may gain by some steps of its own before it counts as far from
its optimum."""


def words(found: Diagnosis) -> list[str]:
    """Return the findings as sentences, the most important one first, the advice last."""
    said = [
        *(f"{_capital(fact.sentence)}." for fact in found.facts if fact.wrong),
        *_trial(found),
        _stability(found),
        *_rotation(found),
        *_rates(found),
        *_changes(found),
        _slopes(found),
        _critic(found),
    ]
    return [
        sentence
        for sentence in [*said, _distance(found), f"Try first: {advice(found)}"]
        if sentence
    ]


def advice(found: Diagnosis) -> str:
    """Return the one change to try first.

    What did best in a trial, else the cure of what is wrong, else what the spectrum says where it
    can.
    """
    trial, best, explained = _long_enough(found), change(found), explains(found)
    if trial is not None:
        tried = (arm for arm in trial.arms if arm.difference is not None)
        arm = next((a for a in tried if best and a.settings == dict(best.settings)), None)
        if best is not None and arm is not None:
            return (
                f"{best.words}: in the trial the distance to the data is {arm.mean:.3g}, and"
                f" {trial.base.mean:.3g} as it is."
            )
        if best is not None:
            return f"{best.words}. That is in your own code, and no trial can make it."
        if explained is None or not explained.certain:
            return (
                f"nothing: of {len(trial.arms) - 1} changes that were tried none did better"
                " than the GAN as it is."
            )
        return (
            f"none of the changes that were tried: {explained.sentence}, and none of"
            f" {len(trial.arms) - 1} changes did better within the trial."
        )
    if best is not None:
        yet = "yet" if found.trial is None else f"for long enough ({found.trial.steps} steps)"
        more = f"; not tried {yet}, --trial 5m measures it" if best.can_be_tried else ""
        return f"{best.words}{more}."
    return _by_spectrum(found)


def explains(found: Diagnosis) -> Fact | None:
    """Return the fact that explains what is wrong; of suspicions the first one whose cure helps."""
    trial, first = _long_enough(found), cause(found.facts)
    if first is None or first.certain or trial is None or trial.best is None:
        return first
    suspected = [fact for fact in found.facts if fact.wrong]
    helped = (
        fact
        for fact in suspected
        for arm in trial.better
        if any(_same(cure, arm.settings) for cure in fact.cures)
    )
    return next(helped, first)


def change(found: Diagnosis) -> Change | None:
    """Return the advised change; with a trial none that did worse than the GAN as it is."""
    trial, fact = _long_enough(found), explains(found)
    if trial is not None:
        better = _changed(trial)
        if fact is None:
            least = MATERIAL * trial.base.mean
            better = [a for a in better if a.difference and sum(a.difference) < -least]
        if fact is not None and fact.certain:
            # What was seen to be wrong is mended first, by what did not do worse.
            own = [a for a in trial.arms if any(_same(c, a.settings) for c in fact.cures)]
            if not own and fact.cures:
                return fact.cures[0]
            better = [a for a in own if a.difference and a.difference[0] <= 0] or better
        return Change(better[0].words, better[0].settings) if better else None
    return fact.cures[0] if fact is not None and fact.cures else None


def _long_enough(found: Diagnosis) -> Trial | None:
    """Return the trial, where its budget was enough for it to tell anything."""
    made = found.trial
    return made if made is not None and made.steps >= ROUNDS[0] else None


def _changed(made: Trial) -> list[Arm]:
    """Return the changes that did better, best first, without what is owed to the start alone.

    A GAN that runs away is less far after fewer steps: to start again changes nothing else, and
    what starts again with a change must do better than that.
    """
    again = next((arm for arm in made.arms if set(arm.settings) == {"anew"}), None)
    return [
        arm
        for arm in made.better
        if "anew" not in arm.settings
        or again is None
        or (arm is not again and arm.mean < again.mean)
    ]


def _same(cure: Change, settings: Mapping[str, Any]) -> bool:
    """Return whether settings contain a cure, from the start or not."""
    bare = {k: v for k, v in cure.settings.items() if k != "anew"}
    if not bare:
        return set(settings) == {"anew"}
    return all(settings.get(k) == v for k, v in bare.items())


def _by_spectrum(found: Diagnosis) -> str:
    spectrum, h = found.spectrum, found.lr["critic"]
    if spectrum is None:
        return (
            "replace the penalty by r1 or gp0, which pull the gradient towards 0: those have"
            " a stable equilibrium, and can be diagnosed."
        )
    if not found.near and spectrum.stability != "stable":
        return (
            "nothing yet: nothing is wrong with the networks, and this far from an equilibrium"
            " eigenvalues do not tell what helps. A trial does: --trial 5m."
        )
    better = _best(found)
    if spectrum.stability == "unstable":
        if spectrum.advised:
            what = "a step is then stable" + (
                "" if spectrum.complete else ", as far as the computed eigenvalues tell"
            )
            return (
                f"a smaller learning rate, {spectrum.advised:.3g} instead of {h:.3g} (the critic's;"
                f" keep the ratio): at {h:.3g} a step oversteps, {what}."
            )
        if better:
            how = (
                "is then stable"
                if found.alternatives[better].stability == "stable"
                else "then grows more slowly"
            )
            return f"add the regularizer {better}: a step at the same learning rate {how}."
        if _gain(found) > LARGE_GAIN:
            return (
                "more critic steps (alternating:critic_steps=5): something grows, and the"
                " critic is far from its optimum."
            )
        if not found.alternatives:
            return "a larger gamma: something grows, and no regularizer was asked for or looked at."
        return (
            "a larger gamma: something grows, and none of the regularizers that were added"
            " here stops it."
        )
    if spectrum.stability == "undecided" and better:
        return (
            f"add the regularizer {better}: nothing here is clearly damped, and with it a"
            " step is stable."
        )
    if _gain(found) > LARGE_GAIN:
        return (
            "more critic steps (alternating:critic_steps=5): the critic is far from its"
            " optimum for this generator."
        )
    if spectrum.stability == "stable":
        return (
            "nothing: what was computed is stable. If training fails all the same, diagnose a"
            " checkpoint from shortly before it does."
        )
    return "a larger budget: the eigenvalues that were computed do not decide."


def plain(value: Any) -> Any:
    """Return plain data for JSON.

    Dataclasses as dictionaries, a complex value as re and im, what is not finite as null.
    """
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        if "value" in held:
            number = held.pop("value")
            held = {"re": number.real, "im": number.imag, **held}
        return plain(held)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _trial(found: Diagnosis) -> list[str]:
    """Return what a trial was."""
    if found.trial is None:
        return []
    made = found.trial
    return [
        f"{len(made.arms) - 1} changes were tried on copies, {made.steps} steps with"
        f" {made.seeds} seeds each, and measured by the {made.metric} to the data:"
        f" {made.start:.3g} at the start, {made.base.mean:.3g} as it is, {made.arms[0].mean:.3g} at"
        f" best, {made.floor:.2g} between halves of the data."
    ]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _stability(found: Diagnosis) -> str:
    spectrum = found.spectrum
    if spectrum is None:
        return f"No spectrum: {found.refused}."
    step = f"One step of {found.dynamics} at learning rate {_pair(found.lr)}"
    scope = "" if spectrum.complete else ", as far as the computed eigenvalues tell"
    by = "" if spectrum.radius is None else f" (largest modulus {spectrum.radius:.6g})"
    if spectrum.stability == "unstable":
        return f"{step} is locally UNSTABLE{by}: a small deviation grows."
    if spectrum.stability == "stable":
        return f"{step} is locally stable{scope}{by}."
    return (
        f"{step} is neither stable nor unstable to this order{scope}{by}: the largest modulus"
        " is 1, or what would decide did not converge."
    )


def _rotation(found: Diagnosis) -> list[str]:
    spectrum = found.spectrum
    if spectrum is None:
        return []
    total, done = len(spectrum.field), sum(e.converged for e in spectrum.field)
    kept = [e.value for e in spectrum.active]
    which = (
        f"All {total} eigenvalues say"
        if spectrum.complete
        else f"The {done} of {total} approximate eigenvalues that converged say"
    )
    if not kept:
        return [f"{which} nothing: every one is neutral or open."]
    top = max(kept, key=abs)
    right = max(kept, key=lambda value: value.real)
    turning = [value for value in kept if abs(value.imag) > 1e-6 * abs(value)]
    grown = [value for value in kept if value.real > UNDAMPED * abs(value)]
    undamped = [value for value in turning if abs(value.real) <= UNDAMPED * abs(value)]
    if grown:
        kind = "some directions grow"
    elif undamped:
        kind = "the game turns and nothing damps it"
    elif turning:
        kind = (
            "the rotation is damped, least by the ratio"
            f" {min(-value.real / abs(value) for value in turning):.3g} of -Re/|λ|"
        )
    else:
        kind = "everything is damped and nothing turns"
    ends = (
        f"The one of largest modulus is {_number(top)}, that of largest real part {_number(right)}"
    )
    said = [f"{which}: {kind}. {ends}; {len(turning)} of {len(kept)} turn."]
    if spectrum.neutral:
        said.append(
            f"{spectrum.neutral} neutral directions, |λ| < {spectrum.tolerance:.2g}, are left"
            " out of the verdict."
        )
    if unsettled := [e for e in spectrum.field if not e.converged]:
        last = max(unsettled, key=lambda e: e.value.real)
        said.append(
            f"{len(unsettled)} did not converge; the largest real part among them is"
            f" {last.value.real:.3g}, residual {last.residual:.2g}."
        )
    if not spectrum.complete:
        said.append(
            "The least damped direction of a large network is not among what can be computed:"
            " slow growth may be missed."
        )
    return said


def _rates(found: Diagnosis) -> list[str]:
    said = []
    spectrum = found.spectrum
    if spectrum is not None and spectrum.windows:
        unstable = Limits(spectrum.windows).words()
        if spectrum.max_stable_lr == 0:
            which = "" if len(spectrum.windows) == 1 else "small "
            said.append(f"No {which}learning rate makes a step stable: it is {unstable}.")
        elif spectrum.complete:
            said.append(
                f"A step is {unstable} (the critic's learning rate, the ratio of both kept)."
            )
        else:
            said.append(
                f"A step is unstable at the critic's learning rate {spectrum.max_stable_lr:.4g}:"
                " the limit is at most that, as far as the computed eigenvalues tell."
            )
    return [*said, f"Optimizer: {found.preconditioner}."]


def _changes(found: Diagnosis) -> list[str]:
    said = []
    for name, other in found.alternatives.items():
        right = "unknown" if other.largest_real is None else f"{other.largest_real:.3g}"
        radius = "" if other.radius is None else f", largest modulus {other.radius:.6g}"
        said.append(
            f"With {name} added, a step is {other.stability}{radius}; largest real part of its"
            f" rates {right}."
        )
    return said


def _slopes(found: Diagnosis) -> str:
    real, fake = found.slopes["real"], found.slopes["generated"]
    return (
        f"||grad D|| is {real['mean']:.3g} on real data (quartiles {real['lower_quartile']:.3g}"
        f" to {real['upper_quartile']:.3g})"
        f" and {fake['mean']:.3g} on generated data ({fake['lower_quartile']:.3g} to"
        f" {fake['upper_quartile']:.3g}); 0 at an equilibrium."
    )


def _critic(found: Diagnosis) -> str:
    c = found.critic
    far = "; it is far from its optimum for this generator" if _gain(found) > LARGE_GAIN else ""
    return (
        f"{c['steps']} more steps of the critic alone take its loss from {c['loss']:.4g} to"
        f" {c['loss_after']:.4g} and its gradient norm"
        f" from {c['gradient']:.3g} to {c['gradient_after']:.3g} on this batch{far}."
    )


def _distance(found: Diagnosis) -> str:
    if found.speed is None:
        return ""
    return (
        "What this cannot know: eigenvalues describe the neighbourhood of a point that stands"
        " still, and here the gradients' norms are"
        f" {found.speed['generator']:.3g} (generator) and {found.speed['critic']:.3g} (critic);"
        " the larger they are, the more local it is."
    )


def _best(found: Diagnosis) -> str | None:
    """Return the alternative that is stable, or else the one that grows least where it helps.

    None where none does.
    """
    now = found.spectrum.radius if found.spectrum else None
    known = {name: other for name, other in found.alternatives.items() if other.radius is not None}
    if now is None or not known:
        return None
    stable = [name for name in known if known[name].stability == "stable"]
    best = min(stable or known, key=lambda name: known[name].radius or 0.0)
    return best if stable or (known[best].radius or 0.0) - 1 < 0.5 * (now - 1) else None


def _gain(found: Diagnosis) -> float:
    return (found.critic["loss"] - found.critic["loss_after"]) / max(
        abs(found.critic["loss"]), 1e-12
    )


def _pair(lr: dict[str, float]) -> str:
    return (
        f"{lr['critic']:g}"
        if lr["critic"] == lr["generator"]
        else f"{lr['generator']:g} (generator) and {lr['critic']:g} (critic)"
    )


def _number(value: complex) -> str:
    return (
        f"{value.real:.4g}"
        if abs(value.imag) <= 1e-9 * abs(value)
        else f"{value.real:.4g}±{abs(value.imag):.4g}i"
    )
