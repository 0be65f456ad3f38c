"""Raw query columns and the history to the query tower's features: the release's compiled transform as ONNX nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.onnx_graph.builder import Builder
from ensemble.onnx_graph.kinds import OPERATORS, is_null
from ensemble.release.raw_feeds import ITEMS, NULLS, TIMES, Unsupported
from ensemble.serving.files.arrays import read_values
from ensemble.serving.files.release import Folder
from ensemble.serving.query.kinds import OPERATORS as SERVED
from ensemble.serving.query.sequence import FIRST_ITEM, HISTORY, HISTORY_AGE, TIME
from ensemble.serving.query.vocabulary import FIRST_KNOWN, UNSEEN


class RawColumns:
    """The transform of a release's query side, `directory`; `trained_ids` are the items that the towers know.

    Raises Unsupported: a step tokenises text, hashes strings or crosses columns, or knows the value that is a null
    here.
    """

    def __init__(self, graph: Builder, directory: Path, trained_ids: np.ndarray) -> None:
        self._document = json.loads((directory / "transform.json").read_text(encoding="utf-8"))
        self.graph, self.directory, self._trained = graph, directory / "vocabulary", trained_ids
        self.inputs: list[dict[str, Any]] = self._document["inputs"]
        self._dtypes = {column["name"]: column["dtype"] for column in self.inputs}

    def take(self) -> dict[str, str]:
        """Add the inputs: `[n]`, lists `[n, m]`, and the history, `[n, m]`; return them by name."""
        ids = "string" if self._trained.dtype == object else "int64"
        raw = {
            spec["name"]: self.graph.take(
                spec["name"], spec["dtype"], ["n", f"{spec['name']}_length"][: 1 + spec["list"]]
            )
            for spec in self.inputs
        }
        raw[ITEMS] = self.graph.take(ITEMS, ids, ["n", "history_length"])
        raw[TIMES] = self.graph.take(TIMES, "int64", ["n", "history_length"])
        return raw

    def features(self, raw: dict[str, str]) -> dict[str, str]:
        """Return the tower's features by name."""
        raw = self._dated(raw)
        features: dict[str, str] = {}
        for step in self._document["steps"]:
            if step["op"] == "sequence":
                features.update(zip((HISTORY, HISTORY_AGE), self._history(raw, step), strict=True))
                continue
            if (operator := OPERATORS.get(step["op"])) is None:
                raise Unsupported(f"feature '{step['output']}': ONNX has no '{step['op']}' that equals the release's")
            names = step.get("inputs") or [step["input"]]
            outputs = operator(self, step, [raw[name] for name in names], [self._dtypes[name] for name in names])
            suffixes = [step["output"] + suffix for suffix, _ in SERVED[step["op"]].makes]
            features.update(zip(suffixes, outputs, strict=True))
        return features

    def codes(self, step: dict[str, Any], value: str, dtype: str) -> str:
        """Return codes of values: known ones from 3, others 2; nulls are the caller's affair."""
        if "hash_buckets" in step:
            raise Unsupported(f"feature '{step['output']}': ONNX does not have the release's hash function")
        known = read_values(Folder(self.directory), step["vocabulary"], dtype)
        if NULLS[dtype] in known.tolist():
            raise Unsupported(f"feature '{step['output']}': knows the value {NULLS[dtype]!r}, which is null here")
        return self.graph.lookup(value, known, np.arange(len(known)) + FIRST_KNOWN, UNSEEN)

    def _dated(self, raw: dict[str, str]) -> dict[str, str]:
        """Fill in the time where it is null: that of the newest entry of the history. A graph has no clock."""
        if self._dtypes.get(TIME) != "int64":
            return raw
        graph = self.graph
        zero = graph.add("Unsqueeze", graph.add("Mul", raw[TIME], 0), [1])
        newest = graph.add("ReduceMax", graph.add("Concat", raw[TIMES], zero, axis=1), axes=[1], keepdims=0)
        return {**raw, TIME: graph.add("Where", is_null(graph, raw[TIME], "int64"), newest, raw[TIME])}

    def _history(self, raw: dict[str, str], step: dict[str, Any]) -> tuple[str, str]:
        """Return codes and ages of the newest entries up to the query's time, newest first."""
        graph, width = self.graph, int(step["max_length"])
        now = graph.add("Unsqueeze", raw[TIME], [1])
        # The later of equal times is the newer, and TopK takes the first of equal ones: so from the end.
        ids, times = (self._from_the_end(raw[name]) for name in (ITEMS, TIMES))
        rows = graph.lookup(ids, self._trained, np.arange(len(self._trained)), -1)
        usable = graph.add("Not", is_null(graph, ids, "string" if self._trained.dtype == object else "int64"))
        usable = graph.add("And", usable, graph.add("LessOrEqual", times, now))
        values = {
            "seconds": (graph.add("Where", usable, times, -1), -1),
            "codes": (graph.add("Add", rows, FIRST_ITEM), 0),
            "times": (times, 0),
        }
        # With `width` columns more, so that as many can be taken.
        padded = {name: graph.add("Pad", value, [0, 0, 0, width], filled) for name, (value, filled) in values.items()}
        newest, order = graph.add_all("TopK", 2, padded["seconds"], [width], axis=1)
        present = graph.add("GreaterOrEqual", newest, 0)
        codes = graph.add("GatherElements", padded["codes"], order, axis=1)
        ages = graph.add("Sub", now, graph.add("GatherElements", padded["times"], order, axis=1))
        parts = [graph.add("Where", present, part, 0) for part in (codes, ages)]
        if step.get("pad_left"):
            parts = [self._from_the_end(part) for part in parts]
        return parts[0], graph.cast(parts[1], "float32")

    def _from_the_end(self, value: str) -> str:
        last, before, axis, back = [-1], [-(2**62)], [1], [-1]
        return self.graph.add("Slice", value, last, before, axis, back)
