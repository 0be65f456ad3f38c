"""A release as a whole: everything that a server would load is loaded, and must answer as it did when it was made."""

from __future__ import annotations

from ensemble.layouts import models_of
from ensemble.serving.files.release import Release
from ensemble.serving.retriever import Retriever
from ensemble.serving.search.candidates import has_ranker
from ensemble.serving.selftest import SelfTest
from ensemble.triton.model_config import model_configs


def examine(release: Release) -> Retriever:
    """Load a verified release as a server does, ask it its sample queries, and return it loaded.

    Raises
    ------
    InvalidRelease
        Its parts do not fit each other, it does not answer as it did, or Triton cannot be told of it.
    """
    retriever = Retriever(release)
    SelfTest.load(release).check(retriever)
    model_configs(release, models_of("both", has_ranker(release)), version=1)
    return retriever
