"""What is said of a training that has ended, and its exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .show import say

if TYPE_CHECKING:
    from ..training import Outcome


def finish(outcome: Outcome) -> int:
    """Say how a run ended.

    Returns:
        The exit status.
    """
    from ..training.ranks import here

    if not here().first:
        return 0
    say(str(outcome.path))
    for i, member in enumerate(outcome.members):
        if member.state == "stopped":
            say(
                f"steadygan: member {i} stopped at step {member.step}: {member.reason}.",
                stderr=True,
            )
    if outcome.state == "finished":
        return 0
    said = [f"steadygan: {outcome.state} at step {outcome.step}: {outcome.reason}."]
    if outcome.resumable:
        said.append(f"steadygan: continue with: steadygan resume {outcome.path}")
    elif not outcome.members:
        said.append(
            "steadygan: the same steps would end there again. Change something (steadygan resume"
            f" {outcome.path} --optimizer or --regularizer), or ask: steadygan diagnose"
            f" {outcome.path}"
        )
    say(*said, stderr=True)
    return 130 if outcome.state == "interrupted" else 1
