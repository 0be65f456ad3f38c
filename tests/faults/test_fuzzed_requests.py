"""Wrong and odd requests, drawn at random, against a real Triton: each is answered or refused as specified."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest

from benchmarks.faults.fuzz import Fuzz
from benchmarks.faults.load import Load, listed
from benchmarks.faults.questions import Subject, right_questions
from ensemble.layouts import CHAINED, FUSED
from tests.served import Served

pytestmark = pytest.mark.server


@pytest.mark.parametrize(("model", "count"), [(FUSED, 400), (CHAINED, 100)])
def test_fuzzed_requests_are_answered_or_refused_as_specified(
    served: Served, release: Path, model: str, count: int
) -> None:
    subject = Subject.of(served.address, release, model)
    right = right_questions(served.address, subject, 20)
    with Load(served.address, chain(right, Fuzz(subject, seed=3)(count), right), 8, patience=6) as load:
        load.wait()
    seen = load.seen.counts
    assert not load.seen.unexpected, listed(load.seen.unexpected)
    assert (seen.sent, seen.lost) == (count + 40 + load.seen.asked_again, 0)
    assert seen.answered > 40
    assert seen.refused > count / 3, "the requests are not wrong enough to try anything"
    assert not [end.message for end in load.seen.ended if "Traceback" in end.message]
