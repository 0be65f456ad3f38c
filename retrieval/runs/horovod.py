"""`horovodrun -np N retrieval train RECIPE`: rank 0 does what one process would, the others train with it.

Whether there are others is told by the environment that horovodrun makes, never by what is installed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from workflows.errors import RecipeError
from workflows.files import atomic_directory
from workflows.jobs import size_of_job

if TYPE_CHECKING:
    from models.training.weights.checkpoints import Session
    from retrieval.runs.run import Job, Run

TRAIN = "train"


@contextmanager
def leading(run: Run, names: Sequence[str], cache: Path) -> Iterator[Callable[[str], None]]:
    """Yield what is to be called before a stage runs. A rank other than 0 trains with rank 0, and ends here. Raise
    RecipeError where several processes are to do something else than to train."""
    if size_of_job() == 1:
        yield lambda name: None
        return
    if list(names) != [TRAIN]:
        raise RecipeError(
            f"horovodrun started {size_of_job()} processes, but only training can use them: first run the other "
            "stages without it, then `horovodrun -np N retrieval train RECIPE`"
        )
    from models.training.horovod import ranks

    if not ranks().leads:
        _follow(run, cache)
    yield ranks().told
    ranks().told(None)


def _follow(run: Run, cache: Path) -> None:
    from models.training.horovod import ranks

    while (name := ranks().told()) is not None:
        run.stages[name].work(run.job(cache, lambda line: None))
    raise SystemExit(0)


@contextmanager
def training(job: Job, key: str) -> Iterator[tuple[Path, Session]]:
    """Yield where the towers go, and with whom and from where they are trained.

    Checkpoints are in `training/` until the towers are in their place. Ranks other than 0 write nothing.
    """
    from models.training.horovod import ranks
    from models.training.weights.checkpoints import Checkpoints, Session

    directory = job.run.directory / "training"
    session = Session(ranks(), Checkpoints(directory, key, job.run.recipe.train.checkpoint_seconds))
    if not session.ranks.leads:
        with tempfile.TemporaryDirectory() as out:
            yield Path(out), session
        return
    with atomic_directory(job.run.towers) as place:
        yield place, session
    shutil.rmtree(directory, ignore_errors=True)
