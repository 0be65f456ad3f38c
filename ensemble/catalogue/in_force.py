"""Checks that a running server answers with the newest changes."""

from __future__ import annotations

import time

from ensemble.serving.files.release import Release
from ensemble.supervision.health import canary
from workflows.errors import ServerError

_PAUSE_SECONDS = 0.05
_ASK_SECONDS = 5.0


def check_in_force(address: str, sequence: int, release: Release, timeout_s: float = 10.0) -> str:
    """Wait until a server, host:port, answers with the changes of `release` up to number `sequence`.

    Return the release that it names in its answers, such as `566afa9a+7`. Raise ServerError if it does not answer,
    serves a release to which the changes do not apply, or still answers without them after `timeout_s`.
    """
    deadline, kin = time.monotonic() + timeout_s, (release.manifest["release"], release.origin["lineage"])
    while True:
        answer = canary(address, timeout_s=_ASK_SECONDS)
        if not answer.release:
            raise ServerError(f"{address}: {answer.reason}")
        served, _, changes = answer.release.partition("+")
        if served not in kin:
            raise ServerError(
                f"{address}: serves release {answer.release}, not {release.manifest['release']}; the change is "
                "written, but whether it is in force there cannot be told: name the release that the server has"
            )
        if int(changes or 0) >= sequence:
            return answer.release
        if time.monotonic() > deadline:
            raise ServerError(
                f"{address}: answers with {answer.release}, not with change {sequence}: it watches another directory, "
                "or has refused a package; its log has the reason"
            )
        time.sleep(_PAUSE_SECONDS)
