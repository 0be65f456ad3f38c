"""Examination of a whole release: a server's loading and self-test, before there is a server."""

from __future__ import annotations

from ensemble.layouts import models_of
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.candidates import has_ranker
from ensemble.serving.selftest import SelfTest
from ensemble.triton.model_config import model_configs


def examine(release: Release) -> Retriever:
    """Load a verified release as a server does, run its self-test and return it loaded.

    Raise InvalidRelease if its parts do not fit each other, its answers have changed, or Triton cannot be configured
    for it.
    """
    retriever = Retriever(release)
    SelfTest.load(release).check(retriever)
    model_configs(release, models_of("both", has_ranker(release)), version=1)
    return retriever
