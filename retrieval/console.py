"""What the commands print: results on stdout, everything else on stderr, one line per error."""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NoReturn, ParamSpec, TextIO

import typer
from rich.console import Console
from rich.table import Table

from ensemble.serving.errors import ServingError
from retrieval.options import AsJson, Verbose
from workflows.errors import RetrievalError
from workflows.files import disk_error, json_bytes
from workflows.jobs import size_of_job

INTERRUPTED = 130
TERMINATED = 143
UNHEALTHY = 1

Options = ParamSpec("Options")


class Terminal:
    """The two consoles of a command: `results` is what it was asked for, `messages` tells what it is doing."""

    def __init__(self, stdout: TextIO, verbose: bool = False, as_json: bool = False, quiet: bool = False) -> None:
        self.verbose, self.as_json = verbose, as_json
        # A pipe or a log has no width of its own; 80 columns would break every title.
        width = None if stdout.isatty() or "COLUMNS" in os.environ else 120
        plain: Any = {"highlight": False, "markup": False, "emoji": False, "force_jupyter": False}
        self.results = Console(file=stdout, width=width, **plain)
        self.messages = Console(file=sys.stderr, quiet=quiet, **plain)

    def say(self, message: str) -> None:
        """Print one line about what is happening."""
        self.messages.print(message, soft_wrap=True)

    def step(self, message: str) -> None:
        """Print one line of progress inside a stage."""
        self.messages.print(f"  {message}", style="dim", soft_wrap=True)

    def section(self, title: str) -> None:
        """Print a heading between results."""
        self.results.print(f"\n{title}", style="bold")

    @contextmanager
    def working(self, name: str) -> Iterator[None]:
        """Say that `name` goes on; on a real terminal a spinner moves meanwhile."""
        if self.messages.is_terminal and not self.messages.quiet:
            with self.messages.status(name):
                yield
        else:
            self.say(f"{name} ...")
            yield

    def json(self, value: object) -> None:
        """Print `value` as JSON, the only thing on stdout."""
        self.results.file.write(json_bytes(value, 2).decode())

    def result(self, value: object, *shown: Table | str) -> None:
        """Print what a command found: `value` with --json, else the tables and lines that show it."""
        if self.as_json:
            self.json(value)
        self.show(*shown)

    def show(self, *shown: Table | str) -> None:
        """Print tables and lines as results, which --json leaves out."""
        for each in () if self.as_json else shown:
            self.results.print(each, soft_wrap=isinstance(each, str))


@contextmanager
def terminal(verbose: bool = False, as_json: bool = False) -> Iterator[Terminal]:
    """Run a command: quiet libraries, stdout kept for results, errors turned into one line and an exit code.

    Exit codes: 2 an error that the user can correct, 130 interrupted, 143 terminated, 1 (with a traceback) a defect.
    """
    if not verbose:
        silence_libraries()
    signal.signal(signal.SIGTERM, _terminate)
    with _reserved_stdout() as stdout:
        output = Terminal(stdout, verbose, as_json)
        try:
            yield output
        except (RetrievalError, ServingError) as error:
            raise _ended_by(error, output) from None
        except OSError as error:
            full = disk_error(error, Path(str(error.filename or "a file")))
            if full is None and (verbose or error.filename is None):
                raise
            raise _ended_by(full or _refused(error), output) from None
        except KeyboardInterrupt:
            output.say("interrupted; the same command continues where it stopped")
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as error:
            if error.code == TERMINATED:
                output.say(_terminated(size_of_job()))
            raise


def command(function: Callable[Concatenate[Terminal, Options], None]) -> Callable[..., None]:
    """Make a command of `function`, which takes a terminal and options: run it in `terminal`.

    `--json` and `--verbose` come last. A parameter that is a dataclass stands for an option of each of its fields.
    """
    return _command(function, {"json": AsJson, "verbose": Verbose})


def command_without_json(function: Callable[Concatenate[Terminal, Options], None]) -> Callable[..., None]:
    """Make a command as `command` does, of a function that finds nothing to tell a program."""
    return _command(function, {"verbose": Verbose})


def _command(
    function: Callable[Concatenate[Terminal, Options], None], common: Mapping[str, Any]
) -> Callable[..., None]:
    signature = inspect.signature(function, eval_str=True)
    parameters = list(signature.parameters.values())[1:]
    groups = {parameter.name: parameter.annotation for parameter in parameters if is_dataclass(parameter.annotation)}
    fields = {name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()}
    options = [
        option
        for parameter in parameters
        for option in fields.get(parameter.name, {parameter.name: parameter}).values()
    ]
    options += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in common.items()
    ]

    @wraps(function)
    def run(*arguments: Options.args, **named: Options.kwargs) -> None:
        for name, group in groups.items():
            named[name] = group(**{field: named.pop(field) for field in fields[name]})
        with terminal(bool(named.pop("verbose", False)), bool(named.pop("json", False))) as out:
            function(out, *arguments, **named)

    run.__annotations__ = {option.name: option.annotation for option in options}
    vars(run)["__signature__"] = signature.replace(parameters=options)  # what Typer reads
    return run


def _terminated(processes: int) -> str:
    if processes == 1:
        return "terminated; the same command continues where it stopped"
    return (  # horovodrun ends all when one ends, and may be quicker than Horovod's own error
        f"terminated: another of the {processes} processes ended, or the job was stopped; the same command goes on "
        "from the last checkpoint"
    )


def _refused(error: OSError) -> RetrievalError:
    """Return what to tell of a path that the system refuses: no such file, no permission, no directory, ..."""
    return RetrievalError(f"{error.filename}: {error.strerror} (--verbose shows what was to be done there)")


def _ended_by(error: Exception, output: Terminal) -> typer.Exit:
    output.messages.print(f"error: {error}", style="red", soft_wrap=True)
    return typer.Exit(RetrievalError.exit_code)


def silence_libraries() -> None:
    """Hide TensorFlow's, Merlin's and NVTabular's start-up noise; must run before they are imported."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


@contextmanager
def _reserved_stdout() -> Iterator[TextIO]:
    """Yield the real stdout; whatever else writes to stdout meanwhile, C libraries included, goes to stderr."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as stdout:
            yield stdout
    finally:
        sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)


def _terminate(signum: int, frame: object) -> NoReturn:
    # An exception, so that every `finally` runs: temporary directories go, a started server stops.
    raise SystemExit(TERMINATED)
