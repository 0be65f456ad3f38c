"""Data-parallel training: several processes, started by horovodrun, that train one model together.

Every process (rank) has a copy of the model, and all rows or, where rows are streamed, its share of them. It takes its
share of each batch; the gradients are averaged over all (Horovod, Sergeev and Del Balso 2018). Rank 0 leads: it alone
writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from workflows.errors import RecipeError, StageError
from workflows.jobs import size_of_job


class Ranks:
    """One process that trains alone; what each method says holds for `HorovodRanks`, too."""

    size, rank = 1, 0

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return which of so many rows this rank looks at; every row is one rank's."""
        return slice(self.rank, total, self.size)

    def batch_share(self, batch_size: int) -> int:
        """Return how many rows of a batch are one rank's.

        Raises
        ------
        RecipeError
            The batch cannot be divided evenly.
        """
        if batch_size % self.size:
            raise RecipeError(
                f"[train] batch_size: {batch_size} rows cannot be divided evenly over {self.size} processes; "
                f"choose a multiple of {self.size}"
            )
        return batch_size // self.size

    def seed(self, seed: int) -> int:
        """Return this rank's own seed: of dropout and of drawn negatives."""
        return seed + 1_000_003 * self.rank

    def means(self, values: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return the mean of each array, `[rows]`, over the rows of all ranks."""
        return {name: float(rows.mean()) for name, rows in values.items()}

    def told(self, value: Any = None) -> Any:
        """Return what rank 0 gave as `value`, on every rank."""
        return value

    def copy(self, variables: Sequence[tf.Variable]) -> None:
        """Give variables the values that they have on rank 0."""

    def optimizer(self, optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
        """Return an optimizer that averages the gradients of all ranks before it applies them."""
        return optimizer

    def pin(self, gpus: Sequence[Any]) -> None:
        """Leave each process one of the machine's GPUs."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise StageError for what the block raises because another rank ended."""
        yield


class HorovodRanks(Ranks):
    """One of several processes."""

    def __init__(self, size: int) -> None:
        try:
            import horovod.tensorflow as hvd
            import horovod.tensorflow.keras as hvd_keras
        except ImportError as error:
            raise RecipeError(
                f"this is one of {size} processes that horovodrun started, but Horovod cannot be imported ({error}); "
                "install horovod[tensorflow] into this environment, or run `retrieval train` without horovodrun"
            ) from None
        self._hvd, self._keras = hvd, hvd_keras
        with self.together():
            hvd.init()
        self.size, self.rank = hvd.size(), hvd.rank()

    def means(self, values: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Add up sums and rows over the ranks."""
        own = [figure for values in values.values() for figure in (values.sum(dtype=np.float64), len(values))]
        with self.together():
            sums = self._hvd.allreduce(tf.constant(own, tf.float64), op=self._hvd.Sum, name="means").numpy()
        return {name: float(sums[2 * place] / sums[2 * place + 1]) for place, name in enumerate(values)}

    def told(self, value: Any = None) -> Any:
        """Broadcast it, pickled, from a process of the same job."""
        with self.together():
            return self._hvd.broadcast_object(value, root_rank=0)

    def copy(self, variables: Sequence[tf.Variable]) -> None:
        """Broadcast them."""
        with self.together():
            self._hvd.broadcast_variables(list(variables), root_rank=0)

    def optimizer(self, optimizer: tf.keras.optimizers.Optimizer) -> tf.keras.optimizers.Optimizer:
        """Wrap it."""
        return self._keras.DistributedOptimizer(optimizer)

    def pin(self, gpus: Sequence[Any]) -> None:
        """Choose by the rank on this machine."""
        if gpus:
            tf.config.set_visible_devices(gpus[self._hvd.local_rank() % len(gpus)], "GPU")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Tell other ranks' ends from all other errors."""
        from horovod.common.exceptions import HorovodInternalError

        try:
            yield
        except (HorovodInternalError, tf.errors.OpError) as error:
            if isinstance(error, tf.errors.OpError) and "orovod" not in str(error):
                raise
            raise StageError(
                f"another of the {self.size} processes ended, and this one cannot train without it; the same command "
                "goes on from the last checkpoint. What ended it stands above, or in the system's log "
                "(out of memory: `dmesg`)"
            ) from error


@lru_cache(maxsize=1)
def ranks() -> Ranks:
    """Return this process's place in its job. Nothing is imported where there is no job.

    Raises
    ------
    RecipeError
        It was started by horovodrun, and there is no Horovod.
    """
    size = size_of_job()
    return HorovodRanks(size) if size > 1 else Ranks()
