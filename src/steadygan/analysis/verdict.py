"""A diagnosis in words, and the one change to try first."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from .limits import Limits

if TYPE_CHECKING:
    from .doctor import Diagnosis

UNDAMPED = 1e-3
"""Damping -Re/|λ| below which an eigenvalue turns for so long that it counts as not damped."""

LARGE_GAIN = 0.2
"""Share of its loss that the critic may gain by some steps of its own before it counts as far from
its optimum."""


def words(found: Diagnosis) -> list[str]:
    """Return the findings as sentences, the most important one first, the advice last."""
    said = [
        *_ends(found),
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
    """Return the one change to try first."""
    spectrum, h = found.spectrum, found.lr["critic"]
    if found.logits["bounded"]:
        return (
            f"take the {_end(found)} from the end of the critic: the losses take logits, of either"
            " sign and any size."
        )
    if spectrum is None:
        return (
            "replace the penalty by r1 or gp0, which pull the gradient towards 0: those have"
            " a stable equilibrium, and can be diagnosed."
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


def _end(found: Diagnosis) -> str:
    return str(found.logits["bounded"]).partition(":")[0]


def _ends(found: Diagnosis) -> list[str]:
    logits = found.logits
    if not logits["bounded"]:
        return []
    return [
        f"The critic's logits are bounded by its last operation, {logits['bounded']} (from"
        f" {logits['lowest']:.3g} to {logits['highest']:.3g} here): it cannot say how sure it is,"
        " and what it passes on to the generator fades."
    ]


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
