"""The kind `embedding`: vectors that were trained elsewhere, of a column or of a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec.structs import replace

from workflows.features.kinds.base import (
    VALUES,
    VECTORS,
    ColumnKind,
    Compiled,
    Form,
    Known,
    Planned,
    Rule,
    Sources,
    Unfit,
    named,
    unfit_lists,
)

if TYPE_CHECKING:
    from workflows.features.pretrained import Pretrained
    from workflows.fitting.learned import Learned


class Embedding(ColumnKind, tag_field="kind", tag="embedding", frozen=True, kw_only=True):
    """Pre-trained vectors, handed to the tower unchanged: those that the column holds, or those that a file has for the
    ids in the column."""

    file: str | None = None
    """Vectors keyed by id, a path or an fsspec address: a `.npy` of numbers `[n, width]`, whose ids `ids` names, or a
    Parquet file with both. Without a file the column itself holds lists of numbers, all of one length."""
    ids: str | None = None
    """The `.npy` of the ids, int64 or strings `[n]`, in the order of the vectors. Not for Parquet."""
    id_column: str = "id"
    """Of the Parquet file."""
    vector_column: str = "vector"
    """Of the Parquet file."""
    trainable: bool = False
    """Training starts from the file's vectors and changes them; the vectors of nulls and of ids that the file lacks
    start from zeros. Frozen, these stay zeros. The vectors of a column are inputs of the tower and cannot be trained.
    """

    example: ClassVar[str] = """\
[item.features]
picture = { kind = "embedding" }                                                # a column of vectors
item_id = [
    { kind = "categorical" },
    { kind = "embedding", file = "title_vectors.npy", ids = "title_ids.npy" },  # frozen
]

[query.features]
user_id = { kind = "embedding", file = "users.parquet", id_column = "user", vector_column = "v", trainable = true }
"""

    def accepts(self, column: str) -> tuple[str, ...]:
        return VALUES if self.file else VECTORS

    def rules(self) -> list[Rule]:
        numpy_file = bool(self.file and self.file.endswith(".npy"))
        return [
            (self.trainable and not self.file, "the vectors of a column cannot be trained; put them into a file"),
            (numpy_file and not self.ids, "a .npy of vectors needs `ids`, the .npy of their ids"),
            (bool(self.ids and not numpy_file), "`ids` belongs to a .npy of vectors; a Parquet file has its id_column"),
        ]

    def unfit(self, column: str) -> dict[str, Unfit]:
        return {} if self.file else {column: lambda values: unfit_lists(values, nan=True)}

    def located(self, at: Callable[[str], str]) -> Embedding:
        paths = {name: getattr(self, name) for name in ("file", "ids")}
        return replace(self, **{name: at(path) for name, path in paths.items() if path})

    def files(self) -> tuple[str, ...]:
        return tuple(path for path in (self.file, self.ids) if path)

    @property
    def form(self) -> Form:
        return "categorical" if self.file else "vector"

    @property
    def width(self) -> int | None:
        return 0 if self.file else None

    def pretrained(self) -> Pretrained | None:
        from workflows.features.pretrained import read_pretrained

        return read_pretrained(self) if self.file else None

    @property
    def trains_table(self) -> bool:
        return self.trainable

    def chain(self, entry: Planned, sources: Sources) -> Any:
        from workflows.operators.codes import KeyedCodes
        from workflows.operators.lists import Vectors

        vectors = self.pretrained()
        return named(entry) >> (Vectors(entry.column) if vectors is None else KeyedCodes(vectors.ids))

    def codes(self, learned: Learned, output: str) -> int:
        return learned.vocabulary_size(output)

    def foretold_codes(self, known: Known, column: str) -> int:
        vectors = self.pretrained()
        return 0 if vectors is None else len(vectors.ids)

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return ("categorical", {"vocabulary": ""}) if self.file else ("vector", {})
