"""A release's query tower as one ONNX graph, its tables within."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from ensemble.serving.files.release import Release
from ensemble.serving.query.tower import TABLE
from workflows.errors import ReleaseError

_LARGEST = (1 << 31) - (1 << 26)
"""Protobuf holds less than 2 GB, the rest of a graph included."""


def whole_tower(release: Release) -> onnx.ModelProto:
    """Return the query tower without tables beside it, for what reads nothing but a graph.

    Raises ReleaseError: with its tables it is too large for an ONNX file.
    """
    path = release.path / "towers/query.onnx"
    model = onnx.load(str(path))
    graph = model.graph
    tables = [table for table in graph.input if table.name.startswith(TABLE)]
    size = sum(4 * prod(axis.dim_value for axis in table.type.tensor_type.shape.dim) for table in tables)
    if size > _LARGEST:
        raise ReleaseError(
            f"{path}: has tables of {size / 1e9:.1f} GB, an ONNX file holds 2; serve the release, with "
            'tower_platform = "python" where the layout is chained'
        )
    for table in tables:
        name = f"towers/query/{table.name.removeprefix(TABLE)}.npy"
        rows = release.array(name, np.float32, dimensions=2)
        graph.initializer.append(numpy_helper.from_array(rows, table.name))
        graph.input.remove(table)
    return model
