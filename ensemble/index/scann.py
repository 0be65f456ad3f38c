"""Builds a ScaNN index with as few partitions and candidates as reach the recall target."""

from __future__ import annotations

import fnmatch
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.config import Index
from ensemble.index.building import Building, Built
from ensemble.index.tuning import Point, Sample, measured
from ensemble.serving.index.scann_index import ASSETS, CONFIG, FOLDER, ScannIndex, extension, open_searcher
from ensemble.serving.index.vectors import normalised
from workflows.errors import ReleaseError

LEAST_ITEMS = 1000
_TRAINED_ON = 250_000
_READ = (0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Shares of the partitions that are tried."""
_REFINE = (2.0, 4.0, 10.0, 30.0)


def build(building: Building) -> Built:
    """Build a ScaNN index; raise ReleaseError for fewer than LEAST_ITEMS items, InvalidRelease if ScaNN is missing."""
    vectors, config = building.vectors, building.config
    if len(vectors) < LEAST_ITEMS:
        raise ReleaseError(
            f"[index] kind 'scann': {len(vectors)} items, expected at least {LEAST_ITEMS}; take kind = 'flat'"
        )
    building.progress("building scann")
    sample = building.sample()
    started, leaves = time.perf_counter(), max(10, round(2 * np.sqrt(len(vectors))))
    stated = building.stated(kind="scann", leaves=leaves, is_exact=False)
    with tempfile.TemporaryDirectory() as folder:
        files = _built(vectors, config.metric, leaves, Path(folder))
        cost = sum(map(len, files.values())) / 1e6, time.perf_counter() - started
        building.progress("measuring scann")
        frontier = list(_frontier(open_searcher(Path(folder)), vectors, stated, sample, config, cost))
    met = [point for point in frontier if point.sure >= config.recall_target]
    best = min(met, key=lambda point: point.mean_us) if met else max(frontier, key=lambda point: point.sure)
    return Built(
        None,
        {**stated, **building.measures(best, frontier)},
        {f"{FOLDER}/{name}": content for name, content in files.items()},
    )


def _built(vectors: np.ndarray, metric: str, leaves: int, folder: Path) -> dict[str, bytes]:
    """Write and return ScaNN's files, with the settings of its documentation: two dimensions a code, threshold 0.2."""
    module = extension("[index] kind = 'scann'")
    data = normalised(vectors) if metric == "cosine" else np.ascontiguousarray(vectors, dtype=np.float32)
    searcher = module.ScannNumpy(data, _configuration(data.shape, metric, leaves), os.cpu_count() or 1)
    searcher.serialize(str(folder), False)
    for name in fnmatch.filter(ASSETS, "*.npy"):  # in NumPy's own spelling, which releases have
        np.save(folder / name, np.load(folder / name, allow_pickle=False), allow_pickle=False)
    return {name: (folder / name).read_bytes() for name in (*ASSETS, CONFIG)}


def _configuration(shape: tuple[int, ...], metric: str, leaves: int) -> str:
    """Return the configuration that ScaNN 1.3.5 writes itself for a tree with hashing and without reordering."""
    items, dim = shape
    is_l2 = metric == "l2"
    distance = f'distance_measure: "{"SquaredL2Distance" if is_l2 else "DotProductDistance"}"'
    variable = "".join(
        f"variable_blocks {{ num_blocks: {count} num_dims_per_block: {width} }} "
        for width, count in ((2, dim // 2), (1, dim % 2))
        if count
    )
    projection = (
        f"projection_type: VARIABLE_CHUNK {variable}"
        if dim % 2
        else f"projection_type: CHUNK num_blocks: {dim // 2} num_dims_per_block: 2"
    )
    return f"""
    num_neighbors: 100
    distance_measure {{ {distance} }}
    partitioning {{
      num_children: {leaves}
      min_cluster_size: 50
      max_clustering_iterations: 12
      single_machine_center_initialization: RANDOM_INITIALIZATION
      partitioning_distance {{ distance_measure: "SquaredL2Distance" }}
      query_spilling {{ spilling_type: FIXED_NUMBER_OF_CENTERS max_spill_centers: {max(1, leaves // 10)} }}
      expected_sample_size: {min(items, _TRAINED_ON)}
      query_tokenization_distance_override {{ {distance} }}
      partitioning_type: GENERIC
      query_tokenization_type: FLOAT
    }}
    hash {{
      asymmetric_hash {{
        lookup_type: INT8_LUT16
        use_residual_quantization: {not is_l2}
        use_global_topn: {not is_l2}
        quantization_distance {{ distance_measure: "SquaredL2Distance" }}
        num_clusters_per_block: 16
        projection {{ input_dim: {dim} {projection} }}
        fixed_point_lut_conversion_options {{ float_to_int_conversion_method: ROUND }}
        noise_shaping_threshold: {"nan" if is_l2 else 0.2}
        expected_sample_size: 100000
        max_clustering_iterations: 10
      }}
    }}
    """


def _frontier(
    searcher: Any, vectors: np.ndarray, stated: dict[str, Any], sample: Sample, config: Index, cost: tuple[float, float]
) -> Iterator[Point]:
    """Yield measured searches, from few partitions up, until the target is reached with few candidates."""
    factors = (config.refine_factor,) if config.refine_factor else _REFINE
    for share, factor in product(_READ, factors):
        search = {"leaves": max(1, round(share * stated["leaves"])), "refine_factor": factor}
        point = measured(ScannIndex(searcher, vectors, {**stated, "search": search}), sample, *cost)
        yield point
        if point.sure >= config.recall_target and factor == factors[0]:
            return
