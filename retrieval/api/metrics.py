"""What was measured of a run, for people who look at it in a notebook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pandas as pd

SHOWN: Final = ("recall@10", "recall@100", "ndcg@10", "coverage@10")


class Metrics(dict[str, Any]):
    """What `metrics.json` holds (docs/metrics.md), such as `metrics["unseen"]["recall@10"]`, and how it looks."""

    @property
    def verdict(self) -> str:
        """Whether the towers are ahead of the best simple model on the test rows; empty where nothing was compared."""
        return str((self.get("verdict") or {}).get("text", ""))

    @property
    def advice(self) -> Sequence[str]:
        """What to try, where they are not."""
        return list((self.get("verdict") or {}).get("try", []))

    @property
    def models(self) -> pd.DataFrame:
        """A row for each model, ours first: figures among items that are new to the user, and seconds of the fit."""
        import pandas as pd

        measured = [model for model in self["comparison"]["models"] if "skipped" not in model]
        rows = {model["name"]: {**_figures(model), "fit_s": model["fit_seconds"]} for model in measured}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

    def __repr__(self) -> str:
        """Return the same tables as the command line prints."""
        from rich.console import Console

        from retrieval.report.peers import peers_table, verdict_lines

        text = io.StringIO()
        console = Console(file=text, width=120, highlight=False, force_jupyter=False)
        console.print(peers_table(self["comparison"]))
        for line in verdict_lines(self):
            console.print(line, soft_wrap=True, markup=False)
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        facts = f"{self['rows']:,} test rows, {self['items']:,} items, what the user already had left out"
        advice = "".join(f"<li>{escape(sentence)}</li>" for sentence in self.advice)
        return (
            f"<p><b>{escape(self.verdict)}</b></p>{f'<ul>{advice}</ul>' if advice else ''}"
            f"{self.models.to_html(float_format='{:.4f}'.format, na_rep='')}<p>{escape(facts)}</p>"
        )


def _figures(model: dict[str, Any]) -> dict[str, float]:
    return {name: model["unseen"][name] for name in SHOWN if name in model["unseen"]}
