"""Promotion and rollback: checks before a version becomes current, the change of a running server, the record of it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from ensemble.config import Promotion
from ensemble.deploy.compare import Candidate, Difference, compare
from ensemble.deploy.swap import deploy, holds, live_version
from ensemble.deploy.versions import Turn, Versions, now
from ensemble.layouts import models_in, models_of
from ensemble.release.examination import examine
from ensemble.serving.search.candidates import has_ranker
from ensemble.triton.model_control import ModelControl
from workflows.errors import ReleaseError, ServerError
from workflows.progress import Progress


@dataclass(frozen=True)
class Order:
    """Who asks for a change and why, and the running server to change; None: the next server to start takes it."""

    who: str
    reason: str | None = None
    control: ModelControl | None = None


@dataclass(frozen=True)
class Promoted:
    """The result of a promotion."""

    turn: Turn
    difference: Difference | None
    """From the previous current version; None if there was none, or it is the same."""
    pruned: list[int]


def promote(versions: Versions, candidate: Candidate, order: Order, force: bool, progress: Progress) -> Promoted:
    """Make a release the current version, as a new version unless it is one already. A current release stays as it is.

    With `force` it is promoted in spite of objections, which are recorded: the bounds of its own `[release]`.

    Raises
    ------
    InvalidRelease, ReleaseError
        The release is damaged, fails its self-test, or exceeds a bound (not with `force`).
    ServerError
        The server refused the release. Nothing was changed.
    """
    with versions.lock():
        _check_attended(versions, order)
        current = versions.current()
        if current is not None and current.release == candidate.id:  # a job that is run again, say
            bring_live(versions, current.version, order.control, progress)
            return Promoted(current, None, [])
        candidate = _with_metrics(versions, candidate)
        progress("asking it the sample queries that it carries")
        examine(candidate.release)
        difference, objections = None, list[str]()
        if current is not None:
            progress(f"comparing with version {current.version}, the current one")
            difference, objections = _judged(versions, candidate)
        if objections and not force:
            raise ReleaseError(_refusal(versions, candidate, objections))
        existing = versions.holding(candidate.id)
        number = existing or versions.add(candidate)
        try:
            bring_live(versions, number, order.control, progress)
        except BaseException:
            versions.remove([] if existing else [number])
            raise
        figures = _figures(difference)
        turn = _turn("promote", number, candidate.id, current, order, forced=tuple(objections), figures=figures)
        versions.make_current(turn)
        return Promoted(turn, difference, versions.prune(bounds_of(candidate).keep))


def roll_back(versions: Versions, to: int | None, order: Order, progress: Progress) -> Turn:
    """Make an earlier version current again, by default the one that the current version replaced.

    Raises
    ------
    ReleaseError
        There is no such version any more, or it is damaged.
    ServerError
        The server refused it. Nothing was changed.
    """
    with versions.lock():
        _check_attended(versions, order)
        current, number = versions.current(), versions.current_number()
        target = versions.before_current() if to is None else to
        if target is None:
            raise ReleaseError(f"{versions}: version {number} took the place of none; name one with --to")
        if target == number:
            raise ReleaseError(f"{versions}: version {number} is the current one")
        bring_live(versions, target, order.control, progress)
        turn = _turn("rollback", target, versions.about(target).release, current, order)
        versions.make_current(turn)
        return turn


def settle(versions: Versions, progress: Progress) -> None:
    """Export the current version if the model repository lacks it: a promotion may have been killed in between."""
    number = versions.current_number()
    if not models_in(versions.repository) or live_version(versions.repository) != number:
        with versions.lock():
            bring_live(versions, versions.current_number(), None, progress)


def _judged(versions: Versions, candidate: Candidate) -> tuple[Difference | None, list[str]]:
    """Return how a release differs from the current one, and the bounds of its own `[release]` that it exceeds."""
    try:
        current = versions.candidate(versions.current_number())
    except ReleaseError as error:  # of an older format, say
        return None, [f"the current version cannot be compared with: {error}"]
    bounds = bounds_of(candidate)
    difference = compare(current, candidate, bounds.k, bounds.users)
    objections = [_recall_objection(current, candidate, difference, bounds), _overlap_objection(difference, bounds)]
    return difference, [objection for objection in objections if objection is not None]


def bounds_of(candidate: Candidate) -> Promotion:
    """Return the recipe's `[release]` section, which the release carries."""
    return msgspec.convert(candidate.release.manifest["promotion"], Promotion)


def bring_live(versions: Versions, number: int, control: ModelControl | None, progress: Progress) -> None:
    """Make a version live in the model repository and, if there is one, in the running server."""
    release, repository = versions.release_of(number), versions.repository
    if not holds(repository, number, versions.about(number).release):
        candidate = versions.candidate(number)
        models = models_of(candidate.release.manifest["serving"]["layout"], has_ranker(candidate.release))
        if models_in(repository) != list(models):
            _export(candidate, repository, number, models, control, progress)
            return
    deploy(release, repository, control, progress, number)


def _export(
    candidate: Candidate,
    repository: Path,
    number: int,
    models: Sequence[str],
    control: ModelControl | None,
    progress: Progress,
) -> None:
    """Export the repository again, with other models."""
    if control is not None:
        raise ServerError(
            f"{repository}: has {', '.join(models_in(repository)) or 'no models'}, version {number} needs "
            f"{', '.join(models)}: stop the server, do this without --address, and start it again"
        )
    from ensemble.triton.export import export_repository  # brings Merlin

    progress("exporting the Triton model repository")
    export_repository(candidate.release.path, repository, version=number)


def _check_attended(versions: Versions, order: Order) -> None:
    """Refuse to change a repository while a server that was not named serves it."""
    if order.control is not None:
        return
    for key in versions.repository.glob(".admin-key-*"):
        port = key.name.rpartition("-")[2]
        try:
            socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
        except (OSError, ValueError):
            continue
        raise ServerError(
            f"{versions.repository}: a server serves it at 127.0.0.1:{port}; give --address 127.0.0.1:{port}, and it "
            "goes over without a failed request"
        )


def _with_metrics(versions: Versions, candidate: Candidate) -> Candidate:
    """Return the candidate with the metrics of the run that trained its towers, if it was derived from that run's
    release.
    """
    if candidate.metrics is not None or "derived_from" not in candidate.release.manifest:
        return candidate
    return replace(candidate, metrics=versions.metrics_of(str(candidate.release.origin["pairing"])))


def _recall_objection(
    current: Candidate, candidate: Candidate, difference: Difference, bounds: Promotion
) -> str | None:
    name = f"unseen recall@{bounds.k}"
    if name not in difference.metrics:
        if candidate.metrics is not None or current.metrics is None:
            return None  # there is nothing that it could be compared with
        return f"its recall is not known ({candidate.source} is no run), that of {current.source} is; promote its run"
    old, new = difference.metrics[name]
    loss = 1 - new / old if old else 0.0
    if loss <= bounds.max_recall_loss:
        return None
    return (
        f"recall@{bounds.k} is {new:.4f}, {loss:.1%} less than {old:.4f}, that of {current.source}; "
        f"max_recall_loss is {bounds.max_recall_loss:.1%}"
    )


def _overlap_objection(difference: Difference, bounds: Promotion) -> str | None:
    answers = difference.answers
    if answers.overlap >= bounds.min_overlap:
        return None
    if not answers.users:
        return f"no user is known to both releases, so none has answers in common; min_overlap is {bounds.min_overlap}"
    return (
        f"{answers.users} users have {answers.overlap:.1%} of their first {answers.k} answers in common; "
        f"min_overlap is {bounds.min_overlap:.1%}"
    )


def _refusal(versions: Versions, candidate: Candidate, objections: list[str]) -> str:
    return (
        f"{candidate.source}: not promoted: {'; '.join(objections)}. See `retrieval diff {versions} "
        f"{candidate.source}`; --force --reason TEXT promotes it all the same"
    )


def _figures(difference: Difference | None) -> dict[str, float]:
    if difference is None:
        return {}
    name = f"unseen recall@{difference.answers.k}"
    recall = difference.metrics.get(name)
    figures = {"overlap": difference.answers.overlap}
    return figures if recall is None else {**figures, "recall_before": recall[0], "recall": recall[1]}


def _turn(
    action: Literal["promote", "rollback"], number: int, release: str, current: Turn | None, order: Order, **more: Any
) -> Turn:
    return Turn(
        action=action,
        version=number,
        release=release,
        before=None if current is None else current.version,
        when=now(),
        who=order.who,
        reason=order.reason,
        server=None if order.control is None else order.control.address,
        **more,
    )
