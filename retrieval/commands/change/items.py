"""`retrieval items`: the catalogue of a release changes, in a derived release or under a running server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval.console import Terminal, command
from retrieval.options import SignWith

app = typer.Typer(
    help="Add, update and remove items of a release: into a new release, or into a directory that servers watch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Source = Annotated[Path, typer.Argument(metavar="RUN", help="A run, a release, or what this command wrote before.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="Items: .parquet, .csv or .jsonl.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Where the new release goes (default: beside the old, by its id).")
]
DeltaPath = Annotated[
    Path | None, typer.Option("--delta", help="Change what servers answer that watch this directory.")
]


@dataclass(frozen=True)
class Where:
    """Where a change is made."""

    out: Out = None
    delta: DeltaPath = None
    address: Annotated[
        str | None, typer.Option("--address", help="With --delta: a server's gRPC address; wait until it answers so.")
    ] = None
    sign: SignWith = None


ANYWHERE = Where()


@app.command()
@command
def add(console: Terminal, source: Source, file: File, where: Where = ANYWHERE) -> None:
    """Add items: their vectors come from the release's own transform and item tower, without training.

    FILE has the raw item columns, as the items table had them. In a CSV file `|` stands between the entries of a list.

    \b
    retrieval items add runs/movielens-100k new.jsonl
    retrieval items add runs/movielens-100k new.csv --delta live --address 127.0.0.1:8001
    """
    _change(console, source, "adding", file, where)


@app.command()
@command
def update(console: Terminal, source: Source, file: File, where: Where = ANYWHERE) -> None:
    """Update items: FILE has their `item_id` and the columns that change.

    \b
    retrieval items update runs/movielens-100k genres.csv
    retrieval items update runs/movielens-100k genres.csv --delta live
    """
    _change(console, source, "updating", file, where)


@app.command()
@command
def remove(
    console: Terminal,
    source: Source,
    what: Annotated[list[str], typer.Argument(metavar="FILE|ID...", help="A file with `item_id`, or item ids.")],
    where: Where = ANYWHERE,
) -> None:
    """Remove items. With --delta: no request that is sent once this returns is answered with one of them.

    \b
    retrieval items remove runs/movielens-100k 50 181
    retrieval items remove runs/movielens-100k recalled.csv --delta live --address 127.0.0.1:8001
    """
    _change(console, source, "removing", what, where)


@app.command()
@command
def status(
    console: Terminal,
    source: Source,
    delta: DeltaPath = None,
    share_limit: Annotated[float, typer.Option("--share-limit", help="Changed items that call for a rebuild.")] = 0.2,
) -> None:
    """Measure the index as it is now: how many items changed since it was built, and its recall.

    \b
    retrieval items status runs/movielens-100k --delta live
    retrieval items status runs/movielens-100k --delta live --json
    """
    from ensemble.catalogue.changes import LiveItems
    from ensemble.index.drift import measure
    from ensemble.serving.files.release import Release
    from retrieval.runs.places import release_of

    items = LiveItems(Release.open(release_of(source)), delta)
    _show_quality(console, measure(items, share_limit))


@app.command()
@command
def compact(
    console: Terminal,
    source: Source,
    out: Out = None,
    delta: DeltaPath = None,
    if_due: Annotated[bool, typer.Option("--if-due", help="Only where `status` says that a rebuild is due.")] = False,
    sign: SignWith = None,
) -> None:
    """Write a release with all changes in it and a new index. Later changes in the directory apply to it, too.

    \b
    retrieval items compact runs/movielens-100k --delta live
    retrieval items compact runs/movielens-100k --delta live --if-due --json
    """
    from ensemble.catalogue.changes import LiveItems
    from ensemble.catalogue.derive import compact as rebuild
    from ensemble.index.drift import measure
    from ensemble.serving.files.release import Release
    from retrieval.runs.places import release_of

    items = LiveItems(Release.open(release_of(source)), delta)
    quality = measure(items) if if_due else None
    if quality is not None and not quality.due:
        _show_quality(console, quality)
        return
    done = _released(source, out, lambda place: rebuild(items, place, console.step), sign, console)
    console.result(done, done["repository"])


def _change(console: Terminal, source: Path, doing: str, what: Any, where: Where) -> None:
    """Make a change where it was asked for, and say what became of it."""
    from ensemble.catalogue.changes import LiveItems
    from ensemble.catalogue.derive import derive
    from ensemble.catalogue.in_force import check_in_force
    from ensemble.catalogue.publish import publish, writing
    from ensemble.serving.files.release import Release
    from retrieval.runs.places import release_of
    from workflows.errors import RecipeError

    delta, address = where.delta, where.address
    if (where.out is not None and delta is not None) or (address is not None and delta is None):
        raise RecipeError("--out and --delta exclude each other, and --address goes with --delta")
    if where.sign is not None and delta is not None:
        raise RecipeError("--sign goes with a new release; changes in a --delta directory are not signed")
    release = Release.open(release_of(source))
    if delta is None:
        change = getattr(LiveItems(release), doing)(what)
        done = _released(
            source, where.out, lambda place: derive(release, change, place, console.step).release, where.sign, console
        )
        console.result({**done, "changed": len(change.ids)}, done["repository"])
        return
    with writing(release, delta) as items:
        change = getattr(items, doing)(what)
        package = publish(items, change)
    sequence = int(package.manifest["sequence"])
    in_force = check_in_force(address, sequence, release) if address else None
    facts = {"package": str(package.path), "sequence": sequence, "changed": len(change.ids), "server": in_force}
    console.result(facts, f"change {sequence}: {package.path}")
    if not console.as_json:
        watching = "servers that watch the directory answer with it from now on"
        console.say(f"in force at {address}" if address else watching)


def _released(source: Path, out: Path | None, write: Any, key: Path | None, console: Terminal) -> dict[str, Any]:
    """Write a release and its model repository into one directory; return where they are."""
    import tempfile

    from ensemble.release.sign import is_signed
    from ensemble.triton.export import export_repository
    from retrieval.runs.places import beside, release_of
    from retrieval.runs.places import sign as write_signature
    from workflows.files import atomic_directory

    place = out.absolute().parent if out else beside(source)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".items.") as folder:
        release = write(Path(folder) / "release")
        console.step("exporting the Triton model repository")
        export_repository(Path(folder) / "release", Path(folder) / "triton")
        if key is not None:
            write_signature(Path(folder), key)
        elif is_signed(release_of(source)):
            remedy = "before --verify takes it, `retrieval sign`, or do this again with --sign"
            console.say(f"not signed, unlike {source}: {remedy}")
        target = out or place / str(release.manifest["release"])[:12]
        with atomic_directory(target) as temporary:
            for name in ("release", "triton"):
                (Path(folder) / name).rename(temporary / name)
    counts = release.manifest["counts"]
    console.step(f"release {release.manifest['release']}: {counts['items']} items")
    return {
        "release": release.manifest["release"],
        "items": counts["items"],
        "path": str(target / "release"),
        "repository": str(target / "triton"),
    }


def _show_quality(console: Terminal, quality: Any) -> None:
    due = "; ".join(quality.reasons)
    console.result(
        quality.as_json(),
        f"{quality.changed} changed of {quality.live} items since the index was built",
        *(f"recall@{k}: {recall:.4f}" for k, recall in quality.recall.items()),
        f"rebuild due: {due}; `retrieval items compact`" if due else "no rebuild is due",
    )
