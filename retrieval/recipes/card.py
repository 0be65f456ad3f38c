"""What a recipe says of its model to those who get to see it: nothing that training reads."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from workflows.config import Section

Line = Annotated[str, Meta(max_length=2000)]


class Card(Section, frozen=True, kw_only=True):
    """What the report's model card says beside what was measured. No stage depends on it."""

    description: Line = ""
    """What the model is for, and for whom."""
    licence: Line = ""
    """Of the model: an SPDX identifier, or words."""
    data: Line = ""
    """Where the tables come from."""
    data_licence: Line = ""
    """Of the tables: an SPDX identifier, or the terms they came under."""
    contact: Line = ""
    """Who answers questions."""
    limits: tuple[Line, ...] = ()
    """What the model should not be used for, and what is known to be wrong with it; a line each."""
