"""Faults with figures: what clients, files and memory see when something breaks. `make faults` runs all of it.

    .venv/bin/python -m benchmarks.faults                         everything, about an hour on two cores
    .venv/bin/python -m benchmarks.faults --quick                 a look at each, some minutes
    .venv/bin/python -m benchmarks.faults --only kill-stub stop   some of them; the other results are kept

    kill-stub      the python stub is killed under load; capacity comes back within 5 s
    verify-kills   Triton and the stub of a server that verifies are killed in turns; it comes back each time
    stop           SIGTERM under load; what is in flight is answered
    worst-requests the heaviest permitted requests for a minute; no process is killed for them, small ones are answered
    disk-full      a release is written, and one deployed, with too little room
    killed-stages  a run is killed at random moments and resumed; the artefacts are those of one undisturbed
    hot-swap       two releases in turns under load; no failed request, every answer wholly from one of them
    soak           80 % of capacity with right and wrong requests; no errors on the right ones, no growth
    fuzz           wrong and odd requests; each answered or refused as specified

A request is answered, refused (INVALID_ARGUMENT or UNAVAILABLE) or lost, which is all else: a time-out, another error,
a wrong answer. Lost has to be zero. The exit status is 1 if anything does not hold. Results:
benchmarks/results/faults.json. Runs, short ones of two recipes, are kept under --runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from benchmarks.faults import files, heaviest, server, swaps
from benchmarks.faults.work import Runs, Work
from benchmarks.harness import Parser, write
from retrieval.console import Terminal, silence_libraries, terminal
from retrieval.report.tables import read_json

SCENARIOS: dict[str, Callable[[Work], dict[str, Any]]] = {
    "kill-stub": server.kill_stub,
    "verify-kills": server.verify_kills,
    "stop": server.stop_under_load,
    "worst-requests": heaviest.worst_requests,
    "disk-full": files.full_disk,
    "killed-stages": files.killed_stages,
    "hot-swap": swaps.hot_swap,
    "soak": swaps.soak,
    "fuzz": swaps.fuzz,
}


def main() -> None:
    """Run the scenarios, write their figures, say which hold."""
    options = _arguments()
    silence_libraries()
    with terminal() as out:
        results: dict[str, Any] = read_json(options.out) if options.only and options.out.is_file() else {}
        for name in options.only or SCENARIOS:
            out.say(f"{name}: {(SCENARIOS[name].__doc__ or name).splitlines()[0]}")
            results[name] = _one(name, options, out)
            write(options.out, results)
        done = {name: results[name] for name in SCENARIOS if name in results}
        out.show(_table(done))
    sys.exit(0 if all(result["holds"] for result in done.values()) else 1)


def _arguments() -> argparse.Namespace:
    parser = Parser(__doc__, "faults")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, help="these scenarios; other results are kept")
    parser.add_argument("--soak-minutes", type=float, default=20)
    parser.add_argument("--fuzzed", type=int, default=100_000, help="requests of `fuzz`")
    parser.add_argument("--kills", type=int, default=50, help="deaths of `killed-stages`")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of death and of the fuzzed requests")
    return parser.options()


def _one(name: str, options: argparse.Namespace, out: Terminal) -> dict[str, Any]:
    began = time.monotonic()
    options.runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"retrieval-{name}-") as scratch:
        figures = SCENARIOS[name](Work(Runs(options.runs.absolute(), out), Path(scratch), options))
    figures["seconds"] = round(time.monotonic() - began)
    figures["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    figures["quick"] = options.quick
    out.say(f"{name}: {'holds' if figures['holds'] else 'DOES NOT HOLD'}, {figures['seconds']} s")
    plain: dict[str, Any] = msgspec.to_builtins(figures)
    return plain


def _table(results: dict[str, Any]) -> Table:
    """Return the requests of each scenario and whether it holds."""
    shown = Table(title="Faults", title_justify="left")
    shown.add_column("scenario")
    for name in ("sent", "answered", "refused", "lost"):
        shown.add_column(name, justify="right")
    shown.add_column("figures")
    shown.add_column("holds")
    for name, result in results.items():
        counts = result.get("requests", {})
        cells = [f"{counts[key]:,}" if key in counts else "" for key in ("sent", "answered", "refused", "lost")]
        figures = "\n".join(f"{key} {_short(result[key])}" for key in SHOWN[name])
        shown.add_row(name, *cells, figures, "yes" if result["holds"] else "NO")
    return shown


def _short(value: Any) -> Any:
    return len(value) if isinstance(value, (list, dict)) else value


SHOWN = {
    "kill-stub": ("kills", "back_s_median", "back_s_max", "failed_in_the_stub", "failed_while_dead"),
    "verify-kills": ("kills", "back_s_max_triton", "back_s_max_stub", "verification_failed"),
    "stop": ("stops", "in_flight_refused", "in_flight_lost", "seconds_to_end_max"),
    "worst-requests": ("worst_max_ms", "neighbours_p50_ms", "neighbours_p99_ms", "processes_changed"),
    "disk-full": ("commands", "refused", "wrong"),
    "killed-stages": ("kills", "runs_resumed_to_the_end", "runs_that_differ"),
    "hot-swap": ("swaps", "failed", "slowest_ms"),
    "soak": ("minutes", "asked_per_s", "errors_on_good_requests", "memory_growth_mb"),
    "fuzz": ("otherwise_than_specified", "servers_whose_processes_changed", "tracebacks_in_log"),
}


if __name__ == "__main__":
    main()
