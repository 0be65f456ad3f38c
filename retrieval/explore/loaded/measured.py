"""Where what is served and the simple models rank the item of every test row, found once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import BadZipFile

import numpy as np

from ensemble.serving.files.parameters import read_json
from models.metrics import Int64Array
from retrieval.explore.loaded.background import Background
from workflows.errors import StageError

if TYPE_CHECKING:
    from retrieval.explore.loaded.explored import Explored

SERVED = "this model"


class Rows(NamedTuple):
    """The test rows asked for."""

    users: np.ndarray
    """Ids [rows]."""
    targets: Int64Array
    """Int64 `[rows]`: rows of the catalogue."""
    ranks: dict[str, Int64Array]
    """By model, int64 `[rows]`, 0-based, among the items that the user has not seen; their number if not found."""


class Measured(Background[Rows]):
    """The ranks of a run's test rows, found in the background."""

    def __init__(self, explored: Explored) -> None:
        self._place = explored.place
        super().__init__(self._measure)

    @property
    def rows(self) -> Rows:
        """Return the test rows."""
        return self.result

    def _measure(self) -> Rows:
        from models.evaluation.stage import measure, served_rows
        from retrieval.runs.run import Run
        from workflows.columns import Columns
        from workflows.features import stage as features

        run = Run.open(self._place)
        data, asked = features.load(run.features), run.recipe.evaluate
        if asked.rows is not None:
            data = data._replace(sample=features.Sample(asked.rows, asked.seed))
        evaluated = measure(data, run.towers, run.recipe.train.objective.rating)
        served = served_rows(data, evaluated, run.towers, run.ranker if run.recipe.ranking else None)
        ranks = {SERVED: served["unseen"].ranks, "popularity": evaluated.popularity["unseen"].ranks}
        users = data.users[Columns.User].to_numpy()[evaluated.task.users]
        return Rows(users, evaluated.task.targets, {**ranks, **_peers(run.peers, len(users))})


def _peers(directory: Path, rows: int) -> dict[str, Int64Array]:
    """Return the ranks that the stage peers found; none where it did not run, or on other rows."""
    if not (directory / "ranks.npz").is_file():
        return {}
    listed = [peer["name"] for peer in read_json(directory / "peers.json") if "skipped" not in peer]
    try:
        with np.load(directory / "ranks.npz") as stored:
            ranks = [stored[f"{number}.unseen"].astype(np.int64) for number in range(len(listed))]
    except (OSError, ValueError, BadZipFile) as error:
        raise StageError(f"{directory / 'ranks.npz'}: {error}; run the recipe again from stage peers") from None
    return {name: ranked for name, ranked in zip(listed, ranks, strict=True) if len(ranked) == rows}
