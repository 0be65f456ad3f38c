"""Options that several commands take, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")
CACHE = Path("~/.cache/merlin-retrieval")
ADDRESS = "127.0.0.1:8001"
RELEASES = Path("releases")

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/movielens-100k.toml.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's directory, such as runs/movielens-100k.")]
ReleasePath = Annotated[Path, typer.Argument(metavar="RELEASE", help="A run, or a release's directory.")]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are kept.")]
Cache = Annotated[Path, typer.Option("--cache", envvar="RETRIEVAL_CACHE", help="Where downloads are kept.")]
Force = Annotated[bool, typer.Option("--force", help="Run the stage although its inputs are the same.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what libraries log.")]
Address = Annotated[str, typer.Option("--address", "--url", help="The server's gRPC address.")]
Layout = Annotated[str | None, typer.Option("--layout", help="fused or chained, where a run has both.")]
Delta = Annotated[
    Path | None, typer.Option("--delta", help="With the changes that `retrieval items` wrote to this directory.")
]
From = Annotated[
    Path | None, typer.Option("--from", metavar="RUN", help="Go on from an earlier run's vocabularies and towers.")
]
Mlflow = Annotated[
    str | None, typer.Option("--mlflow", metavar="URI", help="Log the finished run to this MLflow server or directory.")
]
Peers = Annotated[
    str | None,
    typer.Option(
        "--peers", metavar="NAMES", help="Compare with these: popularity,knn,recent-knn,ease,als, or none. [recipe's]"
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=0, help="Do the Dask work in so many processes of this machine.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Do it on your Dask cluster, such as tcp://10.0.0.1:8786.")
]
Signable = Annotated[Path, typer.Argument(metavar="RELEASE", help="A run, a release, or what `retrieval items` wrote.")]
SignWith = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="PEM: sign the release with this Ed25519 private key.")
]
Releases = Annotated[Path, typer.Argument(metavar="[RELEASES]", help="Where the versions are kept.")]
ReleasesServer = Annotated[
    str | None, typer.Option("--address", help="gRPC address of the server of RELEASES: it goes over at once.")
]
By = Annotated[
    str | None, typer.Option("--by", envvar="RETRIEVAL_BY", help="Who does it, for the history (default: the user).")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the history.")]
Triton = Annotated[Path | None, typer.Option("--triton", help="tritonserver, or its directory.")]
Python = Annotated[Path | None, typer.Option("--python", help="Interpreter that runs the model.")]


def _time(text: str | None) -> str | None:
    from ensemble.serving.files.parameters import is_time

    if text is None or is_time(text):
        return text
    raise typer.BadParameter(f"{text!r}: expected a time as releases state it, such as 2026-09-01T12:00:00+00:00")


AtLeast = Annotated[
    str | None,
    typer.Option("--at-least", metavar="TIME", callback=_time, help="Refuse a release that was made before this."),
]

Texts = list[str] | None
Exclude = Annotated[Texts, typer.Option("--exclude", help="An item id to leave out.")]
IncludeSeen = Annotated[bool, typer.Option("--include-seen", help="Also items of the user's history.")]
