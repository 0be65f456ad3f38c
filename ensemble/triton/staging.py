"""The private directory that a Triton runs in: plain names for what it is given, and nothing to import.

Triton 2.51 hands the paths of a model and of its stub to a shell as they are, so both are links in here, whose names a
shell takes literally. The stub imports from the working directory before anything else, so that is an empty one. It is
deaf to all of Python's variables, PYTHONDONTWRITEBYTECODE among them, and takes paths for ASCII; so the environment in
which it finds itself is one of ours, with the packages of the serving Python, and writes no bytecode.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path

from ensemble.server.permissions import replaceable_by_others
from ensemble.triton.find import STUB, ServingPython, Triton
from workflows.errors import ServerError

_PREFIX = "merlin-retrieval-"
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
_SHARED = Path("/dev/shm")
_START = """\
import site, sys; sys.dont_write_bytecode = True; list(map(site.addsitedir, {packages!r}))
"""
"""A line of a .pth file, which Python runs before anything else (https://docs.python.org/3/library/site.html)."""


class Staging:
    """The directory of one Triton. Directories of killed processes are removed when the next one is made."""

    def __init__(self, repository: Path, triton: Triton, python: ServingPython, delta: Path | None = None) -> None:
        """Create it for a model repository and, if given, a delta directory.

        Raise ServerError if no directory for temporary files has a plain path that others cannot replace.
        """
        place = _place()
        _remove_left(place)
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        self._lock = _locked(self.directory)
        self.models = self._link("models", repository)
        self.delta = None if delta is None else self._link("delta", delta)
        # Kept, for the log's last lines come when the links may be gone.
        self._targets = {str(link): str(link.readlink()) for link in (self.models, self.delta) if link is not None}
        self.work = self.directory / "work"
        self.work.mkdir(mode=0o500)
        self.python = self._link_python(python)
        self.library = None if python.library is None else self._link("library", python.library)
        self.backends: Path | None = None
        if triton.backends is not None and triton.stub is not None:
            self.backends = self._link_backends(triton.backends, triton.stub)

    def remove(self) -> None:
        """Remove the directory, but not what it links to, and the shared memory that a killed Triton leaves."""
        _remove(self.directory)
        os.close(self._lock)

    @property
    def regions(self) -> str:
        """What the names of the regions of shared memory begin with in which this Triton and its models meet."""
        return _regions(self.directory)

    def real(self, text: str) -> str:
        """Return a line of Triton's log with the real paths of repository and delta directory."""
        for link, target in self._targets.items():
            text = text.replace(link, target)
        return text

    def _link(self, name: str, target: Path) -> Path:
        place = self.directory / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target.absolute())
        return place

    def _link_python(self, python: ServingPython) -> Path:
        """Create a virtual environment with the packages of `python`, found without Python's variables."""
        environment = self.directory / "python"
        packages = [str(self._link(f"packages/{number}", folder)) for number, folder in enumerate(python.packages)]
        own = environment / f"lib/python{python.version}/site-packages"
        own.mkdir(parents=True)
        (own / "retrieval.pth").write_text(_START.format(packages=packages), encoding="ascii")
        (environment / "pyvenv.cfg").write_text(
            f"home = {python.home}\ninclude-system-site-packages = false\n", encoding="utf-8"
        )
        self._link("python/bin/python3", python.executable.resolve())
        return environment

    def _link_backends(self, backends: Path, stub: Path) -> Path:
        """Return a directory of the backends with `stub` in the python one.

        The wheel's libraries find others by RPATH four levels above themselves, so the directory has the same depth.
        """
        server, own = backends.parent, "pytriton/tritonserver"
        links = {
            "nvidia_pytriton.libs": server.parent.parent / "nvidia_pytriton.libs",
            **{f"{own}/{path.name}": path for path in server.iterdir() if path != backends},
            **{f"{own}/backends/{path.name}": path for path in backends.iterdir() if path.name != "python"},
            **{f"{own}/backends/python/{path.name}": path for path in (backends / "python").iterdir()},
            f"{own}/backends/python/{STUB}": stub,
        }
        for name, target in links.items():
            self._link(name, target)
        return self.directory / own / "backends"


def _place() -> Path:
    """Return a directory for temporary files with a plain path that others cannot replace."""
    tried = list(dict.fromkeys(Path(folder).resolve() for folder in (tempfile.gettempdir(), *_PLACES)))
    for place in tried:
        usable = _PLAIN.fullmatch(str(place)) and os.access(place, os.W_OK)
        if usable and not any(replaceable_by_others(place / _PREFIX)):
            return place
    raise ServerError(
        f"{', '.join(map(str, tried))}: none will do for Triton's links; set TMPDIR to a directory of yours, with "
        "letters, digits, '.', '_' and '-' in its path, below directories that others cannot write to"
    )


def _locked(directory: Path) -> int:
    """Return a lock that marks the directory as in use until this process ends; systemd-tmpfiles respects it."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _regions(directory: Path) -> str:
    return f"{directory.name}-"


def _remove(directory: Path) -> None:
    for region in _SHARED.glob(f"{_regions(directory)}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)


def _remove_left(place: Path) -> None:
    """Remove what killed processes left; a directory without links yet is about to be locked."""
    for link in place.glob(f"{_PREFIX}*/models"):
        try:
            descriptor = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(descriptor).st_uid == os.geteuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(link.parent)
        except BlockingIOError:
            pass  # its server runs
        finally:
            os.close(descriptor)
