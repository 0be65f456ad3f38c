"""The kind `categorical`: one value to its code."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from workflows.features.kinds.base import Compiled, Name
from workflows.features.kinds.coded import Coded

if TYPE_CHECKING:
    from workflows.fitting.learned import Learned


class Categorical(Coded, tag_field="kind", tag="categorical", frozen=True, kw_only=True):
    """Distinct values to codes: 1 null, 2 unseen, known values from 3 by falling frequency (NVTabular `Categorify`)."""

    vocabulary: Name | None = None
    """Features of one side that name the same vocabulary share it: it is made of all their values, a value has the same
    code in each, and they share one embedding table."""

    example: ClassVar[str] = """\
[query.features]
user_id = { kind = "categorical" }
occupation = { kind = "categorical", min_frequency = 5 }
device_id = { kind = "categorical", hash_buckets = 100_000 }                    # an open id space
city = { kind = "categorical", max_size = 50_000, hash_buckets = 1_000 }        # the rest shares 1,000 codes
home_country = { kind = "categorical", vocabulary = "countries" }
current_country = { kind = "categorical", vocabulary = "countries" }            # one vocabulary, one table
"""

    @property
    def shared(self) -> str:
        return self.vocabulary or ""

    @property
    def learns_every_value(self) -> bool:
        return not self.max_size

    @property
    def keeps_dictionaries(self) -> bool:
        return not self.hash_buckets and not self.vocabulary

    def compiled(self, learned: Learned, output: str) -> Compiled:
        return "categorical", self.code_parameters(learned, output)
