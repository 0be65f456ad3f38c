"""Work of ours inside a process of somebody else's: its settings are as they were afterwards."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from retrieval.console import Terminal
from workflows.files import write_for_oneself


@contextmanager
def work(verbose: bool) -> Iterator[Terminal]:
    """Yield who is told how it goes; meanwhile libraries are quiet, and nobody else can change what is written."""
    mask, disabled = os.umask(0), logging.root.manager.disable
    os.umask(mask)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, when TensorFlow is imported
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(max(disabled, logging.WARNING))
            write_for_oneself()
            yield Terminal(sys.stdout, quiet=not verbose)
    finally:
        logging.disable(disabled)
        os.umask(mask)
