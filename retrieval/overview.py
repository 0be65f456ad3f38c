"""`retrieval --help`: the commands in the order in which one needs them, by what they are for."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

SECTIONS = {
    "From tables to a release": (
        "init", "check", "plan", "run", "demo", "fetch", "features", "train", "rank", "evaluate", "release",
    ),
    "Look closer": ("report", "compare", "tune", "bench", "doctor"),
    "Serve and ask": ("serve", "query", "status", "health", "requests"),
    "Change what is served": ("items", "promote", "rollback", "diff", "releases"),
    "Say who made it": ("keys", "sign", "verify"),
    "Answers and vectors in bulk": ("recommend", "embeddings", "classify", "export"),
}  # fmt: skip


class Overview(TyperGroup):
    """The group of all commands, which lists them in sections; one that has none comes last."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        placed = {name for names in SECTIONS.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in placed)
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in {**SECTIONS, "Others": others}.items():
            present = [(name, self.commands[name].get_short_help_str(width)) for name in names if name in self.commands]
            if present:
                with formatter.section(title):
                    formatter.write_dl(present)
