"""A run from Python: its figures, its answers, its release and its server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.api.metrics import Metrics
from retrieval.api.quiet import work
from retrieval.options import CACHE
from retrieval.runs.run import Run as StoredRun
from retrieval.runs.run import advance

if TYPE_CHECKING:
    import pandas as pd

    from ensemble.batch.everybody import Everybody
    from ensemble.client.filters import Filter
    from retrieval.api.server import Server


class Run:
    """A run's directory: what `retrieval.fit` returns, and what `retrieval run` leaves.

    Stages that are missing or out of date are run when they are needed; finished ones are kept.
    """

    def __init__(self, stored: StoredRun, verbose: bool = True) -> None:
        self._stored, self._verbose = stored, verbose
        self._loaded: tuple[str, Everybody] | None = None

    @classmethod
    def open(cls, path: str | Path, verbose: bool = True) -> Run:
        """Open a run whose towers are trained.

        Parameters
        ----------
        path
            Its directory, such as `runs/movielens-100k`.
        verbose
            Whether progress is shown.

        Returns
        -------
        Run

        Raises
        ------
        StageError
            It is no run, or its features or towers are not finished.
        """
        stored = StoredRun.open(Path(path))
        stored.require("features", "train")
        return cls(stored, verbose)

    @property
    def directory(self) -> Path:
        """Where it is; commands take it as RUN."""
        return self._stored.directory

    @property
    def name(self) -> str:
        """What it is called."""
        return self._stored.recipe.name

    @property
    def report(self) -> Path:
        """Where its page for the browser is."""
        return self.directory / "report.html"

    def evaluate(self) -> Metrics:
        """Measure it on the test rows, beside simple models on the same rows.

        Returns
        -------
        Metrics
            A dictionary, see docs/metrics.md, that shows itself as a table; `verdict` says who is ahead, `models` is a
            frame.

        Raises
        ------
        StageError
            Another process writes to the run.
        """
        self._advance("peers", "evaluate")
        return Metrics(json.loads(self._stored.metrics.read_bytes()))

    def recommend(
        self,
        users: Any = None,
        top_k: int = 10,
        *,
        exclude: Sequence[int | str] = (),
        include_seen: bool = False,
        columns: Mapping[str, Any] | None = None,
        timestamp: int | str | datetime = "now",
        filters: Filter | str | None = None,
    ) -> pd.DataFrame:
        """Answer users from the release in this process, exactly as the server would.

        Parameters
        ----------
        users
            An id, ids, or a frame with a column `user_id`; None: everybody that the release knows. Each is answered
            once. Ids that it does not know are answered from the other columns.
        top_k
            How many items per user.
        exclude
            Items that nobody gets.
        include_seen
            Whether users also get what they had.
        columns
            Query columns with one value for all users, in place of what the release knows of them.
        timestamp
            When everybody asks: `now`, `last` (each user's newest interaction), seconds since 1970, or a datetime (UTC
            if it does not say).
        filters
            An `ensemble.client.filters.Filter`, or one as JSON (docs/serving.md).

        Returns
        -------
        pandas.DataFrame
            A row for each item of each user, best first: `user_id`, `rank` (from 1), `item_id`, `title`, `score`
            (float32), `user_known`.

        Raises
        ------
        DataError
            An id is null or not of the release's type.
        InvalidRequest
            A column, a filter, an item's id or `top_k` is not what the release takes.
        RecipeError
            `timestamp` is no time.
        """
        from retrieval.api.answers import answers, asking_of
        from retrieval.report.examples import Catalogue

        asking = asking_of(top_k, exclude, include_seen, columns, timestamp, filters)
        return answers(self._everybody(), users, asking, Catalogue.of(self.directory))

    def release(self) -> Path:
        """Write the release and its Triton model repository, unless they are there.

        Returns
        -------
        Path
            The release's directory. It needs nothing of the training stack.

        Raises
        ------
        ReleaseError
            It does not answer as the trained model does.
        """
        self._advance("release")
        return self._stored.release

    def serve(self, grpc_port: int | None = None, **options: Any) -> Server:
        """Start Triton on this machine, and return when it answers.

        Parameters
        ----------
        grpc_port
            Of 127.0.0.1; None: a free one.
        **options
            Of `ensemble.server.server.TritonServer`, such as `http_port` and `triton`.

        Returns
        -------
        Server
            Has `address`, `client()` and `stop()`, and is a context manager.

        Raises
        ------
        ServerError
            There is no Triton, a port is taken, or it did not start; the message has the reasons of its log.
        """
        from retrieval.api.server import Server
        from retrieval.runs.serving import answering_model

        self.release()
        return Server(self._stored.triton, answering_model(self._stored), grpc_port, **options)

    def __repr__(self) -> str:
        return f"<Run {self.name}: {self.directory}>"

    def _repr_html_(self) -> str:
        page = f'<a href="{escape(self.report.as_posix())}">report.html</a>' if self.report.exists() else "no report"
        metrics = Metrics(json.loads(self._stored.metrics.read_bytes())) if self._stored.metrics.exists() else Metrics()
        return (
            f"<p>Run <b>{escape(self.name)}</b> in <code>{escape(str(self.directory))}</code>, {page}</p>"
            f"<p>{escape(metrics.verdict)}</p>"
        )

    def _advance(self, *names: str) -> None:
        stages = [stage for name in names if (stage := self._stored.stages.get(name))]
        if not all(map(self._stored.is_finished, stages)):
            with work(self._verbose) as teller:
                advance(self._stored, names, CACHE, teller)

    def _everybody(self) -> Everybody:
        from ensemble.batch.everybody import Everybody

        self.release()
        record = self._stored.record("release")
        stage_id = record.id if record else ""
        if self._loaded is None or self._loaded[0] != stage_id:
            self._loaded = stage_id, Everybody.load(self._stored.release)
        return self._loaded[1]
