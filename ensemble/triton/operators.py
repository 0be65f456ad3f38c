"""The served steps as merlin-systems operators: `TransformQuery >> EncodeQuery >> SearchItems [>> RankCandidates]`.

Each wraps one step of `ensemble.serving` and knows no more than the path of its release, so that nothing is pickled
with it. Between the steps travel the features or the vector, and what the search needs of the request.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from merlin.dag import BaseOperator, ColumnSelector, DataFormats
from merlin.schema import ColumnSchema, Schema
from merlin.systems.dag import Ensemble

from ensemble.release.columns import entries_of
from ensemble.release.congruence import raw_columns
from ensemble.serving.errors import InvalidRelease, InvalidRequest
from ensemble.serving.names import CANDIDATES, LEAST, USER_ROW
from ensemble.serving.query.sequence import Clicks
from ensemble.serving.query.transform import Column
from ensemble.serving.retriever import Answer, Retriever
from ensemble.serving.triton.tensors import NO_ITEM, NO_SCORE, USER, Request, Tensor

_CONTROLS = ("top_k", "exclude_item_ids", "include_seen", "filter", "history_item_ids")
"""Inputs that the search needs as they came."""
_DTYPES = {"INT64": np.int64, "INT32": np.int32, "FP64": np.float64, "FP32": np.float32, "BYTES": str, "BOOL": bool}


@lru_cache(maxsize=4)
def retriever_of(release: str) -> Retriever:
    """Return the loaded release, one object for all operators of a graph."""
    return Retriever.load(Path(release))


class ReleaseOperator(BaseOperator):
    """A step over a release."""

    def __init__(self, release: Path | str) -> None:
        super().__init__()
        self.release = str(Path(release).absolute())

    @property
    def retriever(self) -> Retriever:
        """Return the loaded release, one object for all operators of a graph."""
        return retriever_of(self.release)

    @property
    def supported_formats(self) -> DataFormats:
        """Ask the executor for pandas frames, whose columns hold strings and ragged lists."""
        return DataFormats.PANDAS_DATAFRAME

    def compute_output_schema(
        self, input_schema: Schema, col_selector: ColumnSelector, prev_output_schema: Schema | None = None
    ) -> Schema:
        """Return the step's own columns and, where a later step needs them, the request's."""
        own = Schema(self.made())
        columns = input_schema.column_names
        return own + input_schema.select_by_name([name for name in self.passed_on() if name in columns])

    def made(self) -> list[ColumnSchema]:
        """Return the columns that this step adds."""
        raise NotImplementedError

    def passed_on(self) -> tuple[str, ...]:
        """Return the columns that this step passes on."""
        model_inputs = {tensor.name for tensor in self.retriever.inputs}
        return (*(name for name in _CONTROLS if name in model_inputs), USER_ROW)

    def carried(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the columns of a frame that this step passes on."""
        return {name: frame[name].to_numpy() for name in self.passed_on() if name in frame}

    def for_ranking(self) -> tuple[str, ...]:
        """Return the features that a ranker takes; none where nothing is ranked."""
        ranker = self.retriever.ranker
        features = [feature["name"] for feature in self.retriever.transform.outputs]
        return tuple(name for name in features if ranker is not None and name in ranker.inputs)


class TransformQuery(ReleaseOperator):
    """Raw query columns to features. A column that is null throughout counts as not sent."""

    def transform(self, col_selector: ColumnSelector, transformable: pd.DataFrame) -> pd.DataFrame:
        """Return the features, the user's row and the request's controls."""
        retriever = self.retriever
        columns = _sent(retriever, transformable)
        user_rows = retriever.users.rows_of(columns[USER].values)
        features = retriever.features.compute(columns, user_rows, _clicks(retriever, transformable, dated=True))
        frame = pd.DataFrame({name: _cells(values) for name, values in features.items()})
        return frame.assign(**{USER_ROW: user_rows}, **self.carried(transformable))

    def made(self) -> list[ColumnSchema]:
        """Return the features and the user's row."""
        outputs = self.retriever.transform.outputs
        return [*map(_feature_schema, outputs), ColumnSchema(USER_ROW, dtype=np.int64, dims=(None,))]


class EncodeQuery(ReleaseOperator):
    """Features to the query vector, by the ONNX query tower."""

    def transform(self, col_selector: ColumnSelector, transformable: pd.DataFrame) -> pd.DataFrame:
        """Return the vector, the user's row and the request's controls."""
        retriever = self.retriever
        vectors = retriever.tower.encode(_features(retriever, transformable, retriever.tower.inputs))
        return pd.DataFrame({"vector": _cells(vectors)}).assign(**self.carried(transformable))

    def made(self) -> list[ColumnSchema]:
        """Return the vector."""
        return [ColumnSchema("vector", dtype=np.float32, dims=(None, self.retriever.release.manifest["dim"]))]

    def passed_on(self) -> tuple[str, ...]:
        """Return the columns that this step passes on."""
        return (*super().passed_on(), *self.for_ranking())


class SearchItems(ReleaseOperator):
    """The query vector to the best items that the request does not leave out, or to the candidates of a ranker."""

    def transform(self, col_selector: ColumnSelector, transformable: pd.DataFrame) -> pd.DataFrame:
        """Return item_id, score, count and user_known, as the served model does; for a ranker, the candidates."""
        retriever, rows = self.retriever, transformable[USER_ROW].to_numpy(dtype=np.int64)
        vectors, request = _vectors(transformable), _request(retriever, transformable)
        if retriever.ranker is None:
            return _answered(retriever.nearest(vectors, rows, request))
        retrieved = retriever.nearest(vectors, rows, request, retriever.ranker.candidates)
        least = retriever.least_scores(request)
        frame = pd.DataFrame({CANDIDATES: _cells(retrieved.item_index)}).assign(
            **{LEAST: NO_SCORE if least is None else least, "user_known": retrieved.user_known}
        )
        return frame.assign(**self.carried(transformable))

    def made(self) -> list[ColumnSchema]:
        """Return the outputs of the served model, or those that go to a ranker."""
        if self.retriever.ranker is None:
            return [tensor_schema(tensor) for tensor in self.retriever.outputs]
        known = [tensor_schema(tensor) for tensor in self.retriever.outputs if tensor.name == "user_known"]
        candidates = ColumnSchema(CANDIDATES, dtype=np.int64, dims=(None, None))
        return [candidates, ColumnSchema(LEAST, dtype=np.float32, dims=(None,)), *known]

    def passed_on(self) -> tuple[str, ...]:
        """Return what a ranker needs, or nothing: this is the last step."""
        return ("vector", "top_k", *self.for_ranking()) if self.retriever.ranker else ()


class RankCandidates(ReleaseOperator):
    """The candidates to the best of them, by the release's ranker."""

    def transform(self, col_selector: ColumnSelector, transformable: pd.DataFrame) -> pd.DataFrame:
        """Return item_id, score, count and user_known, as the served model does."""
        retriever, ranker = self.retriever, self.retriever.ranker
        if ranker is None:
            raise InvalidRelease(f"{self.release}: has no ranker; leave `RankCandidates` out")
        candidates = np.stack([np.asarray(row, dtype=np.int64) for row in transformable[CANDIDATES]])
        features = _features(retriever, transformable, ranker.inputs)
        least = transformable[LEAST].to_numpy(dtype=np.float32)
        ranked = ranker.rank(features, _vectors(transformable), candidates, _top_k(retriever, transformable), least)
        ids = retriever.item_ids.take(ranked.item_index, mode="wrap")
        known = transformable["user_known"].to_numpy(dtype=bool)
        return _answered(Answer(ranked.item_index, ids, ranked.score, ranked.count, known))

    def made(self) -> list[ColumnSchema]:
        """Return the outputs of the served model."""
        return [tensor_schema(tensor) for tensor in self.retriever.outputs]

    def passed_on(self) -> tuple[str, ...]:
        """Return nothing: this is the last step."""
        return ()


def build_ensemble(release: Path) -> Ensemble:
    """Build the merlin-systems graph over a release; raise InvalidRelease if it is damaged.

    `TransformQuery >> EncodeQuery >> SearchItems`, followed by `RankCandidates` if the release ranks. It takes the
    inputs of the served model as columns, n rows.
    """
    retriever = retriever_of(str(release.absolute()))
    schema = Schema([tensor_schema(tensor) for tensor in retriever.inputs])
    graph = schema.column_names >> TransformQuery(release) >> EncodeQuery(release) >> SearchItems(release)
    return Ensemble(graph if retriever.ranker is None else graph >> RankCandidates(release), schema)


def tensor_schema(tensor: Tensor) -> ColumnSchema:
    """Return a Triton tensor as a Merlin column: [rows], or [rows, any length]."""
    dims = (None,) if tensor.dims == 1 else (None, None)
    return ColumnSchema(tensor.name, dtype=_DTYPES[tensor.dtype], dims=dims)


def _feature_schema(output: Any) -> ColumnSchema:
    dims = (None, output["max_length"]) if output["list"] else (None,)
    return ColumnSchema(output["name"], dtype=np.dtype(output["dtype"]), dims=dims)


def _cells(values: np.ndarray) -> Any:
    """Return one value, or one array, per row."""
    return values if values.ndim == 1 else list(values)


def _values(column: pd.Series, output: Any) -> np.ndarray:
    cells = np.stack([np.asarray(cell) for cell in column]) if output["list"] else column.to_numpy()
    return cells.astype(output["dtype"], copy=False)


def _features(retriever: Retriever, frame: pd.DataFrame, names: Collection[str]) -> dict[str, np.ndarray]:
    return {
        name: _values(frame[name], feature)
        for feature in retriever.transform.outputs
        if (name := feature["name"]) in names
    }


def _vectors(frame: pd.DataFrame) -> np.ndarray:
    return np.stack([np.asarray(vector, dtype=np.float32) for vector in frame["vector"]])


def _answered(answer: Answer) -> pd.DataFrame:
    cells = {"item_id": _cells(answer.item_id), "score": _cells(np.maximum(answer.score, NO_SCORE))}
    return pd.DataFrame(cells).assign(count=answer.count, user_known=answer.user_known)


def _top_k(retriever: Retriever, frame: pd.DataFrame) -> np.ndarray:
    top_k = frame["top_k"].astype(object).where(frame["top_k"].notna(), retriever.serving["top_k"])
    return top_k.to_numpy(dtype=np.int64)


def _sent(retriever: Retriever, frame: pd.DataFrame) -> dict[str, Column]:
    """Return the raw columns of the frame that are not null throughout."""
    sent = [name for name in frame if name == USER or frame[name].notna().any()]
    return raw_columns(frame[sent], retriever.release)


def _request(retriever: Retriever, frame: pd.DataFrame) -> Request:
    """Return the request for the search, whose query columns are no longer needed; a null means the default."""
    seen = frame["include_seen"].astype(object).where(frame["include_seen"].notna(), False)
    excluded = _entries(frame["exclude_item_ids"], retriever.item_ids.dtype)
    clicks = _clicks(retriever, frame, dated=False)
    filters = frame["filter"].astype(object).where(frame["filter"].notna(), "").tolist()
    some = filters if any(filters) else None
    return Request({}, _top_k(retriever, frame), seen.to_numpy(dtype=bool), excluded, clicks, some)


def _clicks(retriever: Retriever, frame: pd.DataFrame, dated: bool) -> Clicks | None:
    """Return the interactions in the rows, without padding; unless `dated`, their times are no longer needed."""
    if retriever.transform.sequence is None:
        return None
    rows, ids = _entries(frame["history_item_ids"], retriever.item_ids.dtype)
    seconds = np.zeros(len(rows), dtype=np.int64)
    if dated:
        of_times, seconds = _entries(frame["history_timestamps"], np.dtype(np.int64))
        if not np.array_equal(rows, of_times):
            raise InvalidRequest("column 'history_timestamps': expected as many entries as in 'history_item_ids'")
    real = ids != NO_ITEM["BYTES" if ids.dtype == object else "INT64"]
    return Clicks(rows[real], ids[real], seconds[real])


def _entries(column: pd.Series, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return row and value of every entry of a column of lists; a null is an empty list."""
    offsets, entries = entries_of(column)
    return np.repeat(np.arange(len(column)), np.diff(offsets)), np.array(entries, dtype=dtype)
