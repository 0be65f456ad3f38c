"""Run every benchmark for seconds, with `--quick`: whether it still runs, not what it measures.

    make benchmarks-smoke
    .venv/bin/python -m benchmarks.smoke index filters      these alone

Every file here and below that can be run is a benchmark, unless TOOLS names it. What they write, and the log of each,
is in runs/quick/NAME/, and what they share in runs/quick/runs/, emptied before; nothing may change in
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.harness import QUICK, RESULTS, ROOT, module_of, say

HERE = Path(__file__).parent
TOOLS = {
    "smoke": "this one",
    "readme": "fills the pages from results",
    "explore_pictures": "draws the pictures of docs/explore.md",
    "disk": "started by faults",
}
"""Files that can be run and are no benchmarks."""
ARGUMENTS = {"faults": ["--only", "stop"]}
"""Further arguments; tests/faults/ has the other scenarios of faults, at a size of their own."""
LONGEST = ("family", "plan", "layouts")
"""They begin first, so that none of them is left alone at the end."""
SECONDS = 600
"""Longer than this, a benchmark hangs; on a quiet machine none takes a quarter of it, on a busy one half."""
Content = dict[str, bytes]


def main() -> None:
    """Run the benchmarks; exit status 1 if one fails or writes where it should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(benchmarks())}")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; default 2")
    options = parser.parse_args()
    names = options.names or [*benchmarks()]
    if unknown := set(names) - set(benchmarks()):
        parser.error(f"{', '.join(unknown)}: no such benchmark")
    shutil.rmtree(QUICK / "runs", ignore_errors=True)
    before, began = contents(), time.monotonic()
    with ThreadPoolExecutor(options.jobs) as pool:
        failed = [name for name, fine in zip(names, pool.map(run, names), strict=True) if not fine]
    say(f"{len(names)} benchmarks in {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    if changed := [name for name, content in contents().items() if before.get(name) != content]:
        say(f"--quick wrote to benchmarks/results/: {', '.join(changed)}")
    sys.exit(1 if failed or changed else 0)


def benchmarks() -> dict[str, Path]:
    """Return the files of all benchmarks, by name."""
    files = sorted(path for path in HERE.rglob("*.py") if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))
    named = {path.parent.name if path.stem == "__main__" else path.stem: path for path in files}
    named = {name: path for name, path in named.items() if name not in TOOLS}
    return dict(sorted(named.items(), key=lambda entry: entry[0] not in LONGEST))


def run(name: str) -> bool:
    """Run a benchmark, tell how long it took, and the end of its log where it failed; return whether it did not."""
    place, began = QUICK / name, time.monotonic()
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = [sys.executable, "-m", module_of(benchmarks()[name]), "--quick", *ARGUMENTS.get(name, [])]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    log = place / "log.txt"
    with log.open("wb") as output:
        status = ended(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output))
    say(f"{name}: {'ok' if status == '0' else f'FAILED ({status}), {log}'}, {time.monotonic() - began:.0f} s")
    if status != "0":
        say("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:]))
    return status == "0"


def ended(process: subprocess.Popen[bytes]) -> str:
    """Return the exit status of a benchmark; kill one that takes too long, with the processes that it started."""
    try:
        return str(process.wait(SECONDS))
    except subprocess.TimeoutExpired:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()
        return f"still running after {SECONDS} s"


def contents() -> Content:
    """Return what the results hold."""
    return {path.name: path.read_bytes() for path in RESULTS.iterdir()}


if __name__ == "__main__":
    main()
