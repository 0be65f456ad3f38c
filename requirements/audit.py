"""Compare the versions in the locks with known advisories: `make audit`.

pip-audit asks for advisories where the package index, osv.dev or a mirror of it (--osv-url) has them for it; a
checkout of https://github.com/pypa/advisory-database can be read as well (--database). Where none is there,
`advisories.toml` beside this file, which is dated, is all that is known, and the command says so. Every advisory of a
locked version needs a verdict in that file: what it means here.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml  # type: ignore[import-untyped]
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LIST = ROOT / "requirements" / "advisories.toml"
LOCKS = ("requirements/*.txt", "containers/*.txt")
PIP_AUDIT = ROOT / ".venv-tools" / "bin" / "pip-audit"
SERVICES = [["--vulnerability-service=pypi"], ["--vulnerability-service=osv"]]
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_TIMEOUT_SECONDS = 15


class Pin(NamedTuple):
    """A package in a version that a lock holds."""

    package: str
    version: str


class Found(NamedTuple):
    """An advisory of a pin, under all its names."""

    pin: Pin
    names: frozenset[str]


class Advisory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Advisories of a package that mean the same here."""

    package: str
    affected: Mapping[str, list[str]]
    """The versions that each one concerns, as version specifiers, by the advisory's name: CVE, GHSA or PYSEC."""
    verdict: str
    """Why it is accepted, or what is done about it; empty: nobody has looked yet."""

    def concerns(self, name: str, pin: Pin) -> bool:
        """Return whether the one of that name is about the pinned version."""
        return any(SpecifierSet(one, prereleases=True).contains(pin.version) for one in self.affected[name])


class Advisories(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`advisories.toml`."""

    as_of: date
    """When advisories were last looked for."""
    advisory: list[Advisory] = []

    def of(self, pins: Mapping[Pin, list[str]]) -> Iterator[Found]:
        """Yield those that concern a pin."""
        for one in self.advisory:
            for pin in pins:
                if pin.package == canonicalize_name(one.package):
                    yield from (Found(pin, frozenset({name})) for name in one.affected if one.concerns(name, pin))

    def verdict(self, found: Found) -> str:
        """Return what is stated about an advisory of this pin; empty: nothing."""
        stated = (
            one.verdict
            for one in self.advisory
            if canonicalize_name(one.package) == found.pin.package
            and any(one.concerns(name, found.pin) for name in found.names & one.affected.keys())
        )
        return next(filter(None, stated), "")


def locked(root: Path) -> dict[Pin, list[str]]:
    """Return what the locks hold, each with the locks that hold it."""
    pins = defaultdict(list)
    for lock in sorted(path for pattern in LOCKS for path in root.glob(pattern)):
        for name, version in _PIN.findall(lock.read_text(encoding="utf-8")):
            pins[Pin(canonicalize_name(name), version)].append(lock.relative_to(root).as_posix())
    return {pin: sorted(set(locks)) for pin, locks in sorted(pins.items())}


def rounds(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Return the pins in lists that hold no package twice, as pip-audit wants them."""
    held: list[list[Pin]] = []
    versions: dict[str, int] = defaultdict(int)
    for pin in pins:
        place = versions[pin.package]
        versions[pin.package] += 1
        if place == len(held):
            held.append([])
        held[place].append(pin)
    return held


def asked(pins: Iterable[Pin], service: list[str]) -> tuple[list[Found], set[Pin]]:
    """Return the advisories that a service of pip-audit knows, and the pins that it did not answer for."""
    found: list[Found] = []
    silent = set(pins)
    for some in rounds(sorted(silent)):
        for one in _pip_audit(some, service):
            # What a service does not know is skipped, with a reason in place of the version, and is no failure.
            pin = Pin(canonicalize_name(one["name"]), one.get("version", ""))
            silent.discard(pin)
            found += [Found(pin, frozenset({hole["id"], *hole["aliases"]})) for hole in one.get("vulns", ())]
    return found, silent


def _pip_audit(pins: list[Pin], service: list[str]) -> list[dict[str, Any]]:
    options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off", f"--timeout={_TIMEOUT_SECONDS}"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{pin.package}=={pin.version}\n" for pin in pins))
        file.flush()
        command: list[str | Path] = [PIP_AUDIT, f"--requirement={file.name}", *service, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except ValueError:  # a traceback: it could not connect
        return []


def in_database(folder: Path, pins: Mapping[Pin, list[str]]) -> Iterator[Found]:
    """Yield what a checkout of pypa/advisory-database knows of the pins."""
    if not (folder / "vulns").is_dir():
        raise SystemExit(
            f"audit: {folder}: has no folder vulns; expected a checkout of github.com/pypa/advisory-database"
        )
    for pin in pins:
        for path in sorted((folder / "vulns" / pin.package).glob("*.yaml")):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            if any(
                pin.version in one.get("versions", ()) for one in content["affected"] if not content.get("withdrawn")
            ):
                yield Found(pin, frozenset({content["id"], *content.get("aliases", ())}))


def online(pins: Mapping[Pin, list[str]], services: list[list[str]], as_of: date) -> list[Found]:
    """Return what the first service that answers knows; say so where none does."""
    probe = next(iter(pins))
    for service in services:
        if asked([probe], service)[1]:
            continue  # at once: one time-out in place of one for each pin
        found, silent = asked(pins, service)
        left = f", not for {', '.join(f'{pin.package} {pin.version}' for pin in sorted(silent))}" if silent else ""
        say(f"audit: {service[-1]} answered for {len(pins) - len(silent)} of {len(pins)} pins{left}")
        return found
    say(f"audit: no service of pip-audit has advisories here: the list of {as_of} is all that is known")
    return []


def append(path: Path, missing: list[Found]) -> None:
    """Write advisories without a verdict into the list, for somebody to complete."""
    text = re.sub(r"^as_of = .*$", f"as_of = {date.today()}", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for found in missing:
        name = min(found.names)  # CVE before GHSA before PYSEC
        text += f'\n[[advisory]]\npackage = "{found.pin.package}"\nverdict = ""\n'
        text += f'affected."{name}" = ["=={found.pin.version}"]\n'
    path.write_text(text, encoding="utf-8")


def read(path: Path) -> Advisories:
    """Read the list; exit with the reason where it is wrong."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Advisories)
    except (OSError, msgspec.MsgspecError) as error:
        raise SystemExit(f"audit: {path}: {error}") from None


def gathered(arguments: argparse.Namespace, stated: Advisories, pins: Mapping[Pin, list[str]]) -> Iterator[Found]:
    """Yield the advisories of the pins, from every source that was asked for."""
    yield from stated.of(pins)
    if arguments.database:
        yield from in_database(arguments.database, pins)
    if not arguments.offline:
        osv = ["--vulnerability-service=osv", f"--osv-url={arguments.osv_url}"]
        yield from online(pins, [osv] if arguments.osv_url else SERVICES, stated.as_of)


def say(text: str) -> None:
    """Write a line to stdout."""
    sys.stdout.write(text + "\n")


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="where requirements/ and containers/ lie")
    parser.add_argument("--list", type=Path, default=LIST, help="the dated list of advisories")
    parser.add_argument("--offline", action="store_true", help="ask no service")
    parser.add_argument(
        "--osv-url", help="a service like https://api.osv.dev/v1/query to ask in place of the known ones"
    )
    parser.add_argument("--database", type=Path, help="a checkout of github.com/pypa/advisory-database")
    parser.add_argument("--write", action="store_true", help="add what is missing to the list, without a verdict")
    return parser.parse_args()


def main() -> int:
    """Print what has no verdict; return 1 where there is any."""
    arguments = parsed()
    stated, pins = read(arguments.list), locked(arguments.root)
    found = set(gathered(arguments, stated, pins))
    missing = sorted((one for one in found if not stated.verdict(one)), key=lambda one: (one.pin, min(one.names)))
    for one in missing:
        names, locks = ", ".join(sorted(one.names)), ", ".join(pins[one.pin])
        say(f"audit: {one.pin.package} {one.pin.version} ({locks}): {names} has no verdict")
    if not missing:
        say(f"audit: {len(pins)} pins, {len(found)} known advisories concern them, each has a verdict")
        return 0
    say(
        f"audit: upgrade (make lock UPGRADE='--upgrade-package {missing[0].pin.package}'), or state in "
        f"{arguments.list.name} what it means here (--write adds it there)"
    )
    if arguments.write:
        append(arguments.list, missing)
    return 1


if __name__ == "__main__":
    sys.exit(main())
