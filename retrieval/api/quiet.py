"""Work of ours inside a process of somebody else's: its settings are as they were afterwards."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from retrieval.runs.run import Teller
from workflows.files import write_for_oneself


class Silent:
    """Tells nobody."""

    def say(self, message: str) -> None:
        """Drop it."""

    def step(self, message: str) -> None:
        """Drop it."""

    def working(self, name: str) -> AbstractContextManager[None]:
        """Show nothing."""
        return nullcontext()


SILENT: Teller = Silent()


@contextmanager
def work(verbose: bool) -> Iterator[Teller]:
    """Yield who is told how it goes; meanwhile libraries are quiet, and nobody else can change what is written."""
    from retrieval.console import Terminal

    mask, disabled = os.umask(0), logging.root.manager.disable
    os.umask(mask)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, when TensorFlow is imported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(max(disabled, logging.WARNING))
            write_for_oneself()
            yield Terminal(sys.stdout) if verbose else SILENT
    finally:
        logging.disable(disabled)
        os.umask(mask)
