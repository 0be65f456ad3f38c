"""`retrieval keys`, `sign` and `verify`: who made a release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval.console import Terminal, terminal
from retrieval.options import AsJson, AtLeast, Verbose

Key = Annotated[
    Path | None, typer.Option("--sign", metavar="KEY", help="PEM: sign the release with this Ed25519 private key.")
]
Source = Annotated[Path, typer.Argument(metavar="RELEASE", help="A run, a release, or what `retrieval items` wrote.")]


def keys(
    name: Annotated[Path, typer.Argument(metavar="NAME", help="The pair becomes NAME.pem and NAME.pub.pem.")],
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a pair of keys: who holds the private one signs releases, who holds the public one verifies them.

    \b
    retrieval keys keys/release
    """
    with terminal(verbose) as out:
        from ensemble.release.sign import new_keys

        private, public = (name.with_name(f"{name.name}{suffix}.pem") for suffix in ("", ".pub"))
        new_keys(private, public)
        if json:
            out.json({"private": str(private), "public": str(public)})
        else:
            out.results.print(f"private: {private} (to sign with; keep it)\npublic: {public}", soft_wrap=True)


def sign(
    source: Source,
    key: Annotated[Path, typer.Option("--key", help="PEM: the Ed25519 private key.")],
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Sign a release, and the copies of it in the model repository beside it.

    \b
    retrieval sign runs/movielens-100k --key keys/release.pem
    """
    with terminal(verbose) as out:
        signed = sign_source(source, key)
        out.json({"release": signed, "signed": True}) if json else out.results.print(f"signed: release {signed}")


def verify(
    source: Source,
    key: Annotated[Path, typer.Option("--key", help="PEM: one or more Ed25519 public keys.")],
    at_least: AtLeast = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Verify every byte of a release, who signed it and that it answers; exit code 2 where anything is wrong.

    An older release is signed, too: --at-least refuses one that was made before the time given, as printed here.

    \b
    retrieval verify runs/movielens-100k --key keys/release.pub.pem
    retrieval verify runs/movielens-100k --key keys/release.pub.pem --at-least 2026-09-01T12:00:00+00:00
    """
    with terminal(verbose) as out:
        from ensemble.release.examination import examine
        from ensemble.release.sign import open_signed
        from ensemble.serving.index.engines import ENGINES, kind_of
        from retrieval.runs.serving import release_of

        opened = open_signed(release_of(source), key, at_least)
        if kind_of(opened) not in ENGINES:  # another engine's items lie elsewhere, and may not be reached from here
            examine(opened)
        facts = {name: str(opened.manifest[name]) for name in ("release", "created")}
        if json:
            out.json({**facts, "verified": True})
        else:
            out.results.print(f"verified: release {facts['release']}, made at {facts['created']}", soft_wrap=True)


def sign_source(source: Path, key: Path) -> str:
    """Sign the release of a run, or of what `retrieval items` wrote, wherever it lies there; return its id."""
    from ensemble.release.sign import copies_in
    from ensemble.release.sign import sign as write_signature
    from retrieval.runs.serving import release_of, repository_of

    return str(write_signature(release_of(source), key, copies_in(repository_of(source))).manifest["release"])


def sign_derived(source: Path, made: Path, key: Path | None, out: Terminal) -> None:
    """Sign what was made of the release at `source`; say so where that was signed and this is not."""
    from ensemble.release.sign import is_signed
    from retrieval.runs.serving import release_of

    if key is not None:
        sign_source(made, key)
    elif is_signed(release_of(source)):
        out.say(
            f"not signed, unlike {source}: before --verify takes it, `retrieval sign`, or do this again with --sign"
        )
