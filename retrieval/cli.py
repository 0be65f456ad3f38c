"""The `retrieval` program: its commands by what they are for, and the options that all of them share.

Each command is the function (or the `app` of subcommands) of its name in the file of its name, in the folder of its
section in `retrieval/commands`. It is imported when the command is called.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "start": ("From tables to a release", ("quickstart", "init", "check", "plan", "run", "demo")),
    "stages": ("Stage by stage", ("fetch", "features", "train", "rank", "evaluate", "release")),
    "look": ("Look closer", ("explore", "report", "compare", "tune", "bench", "doctor")),
    "serving": ("Serve and ask", ("serve", "query", "status", "health", "requests")),
    "change": ("Change what is served", ("items", "promote", "rollback", "diff", "releases")),
    "signing": ("Say who made it", ("keys", "sign", "verify")),
    "bulk": ("Answers and vectors in bulk", ("recommend", "embeddings", "classify", "export")),
}
"""Each folder of `retrieval/commands`: its title in `retrieval --help`, its commands in the order one needs them."""

FOLDERS: dict[str, Any] = {name: folder for folder, (_, names) in SECTIONS.items() for name in names}
"""The folder of each command."""


class Commands(TyperGroup):
    """The commands of `SECTIONS`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = FOLDERS  # "Did you mean" reads the names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command; None if there is none of the name."""
        if cmd_name not in FOLDERS:
            return None
        module = import_module(f"retrieval.commands.{FOLDERS[cmd_name]}.{cmd_name}")
        if hasattr(module, "app"):
            return typer.main.get_group(module.app)
        command = typer.Typer(add_completion=False, rich_markup_mode=None)
        command.command(cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(command)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write their names, a section a line."""
        with formatter.section("Commands (retrieval COMMAND --help explains one)"):
            formatter.write_dl([(title, " ".join(names)) for title, names in SECTIONS.values()])


app = typer.Typer(
    cls=Commands,
    help="From raw interactions to a served top-k answer: two-tower retrieval on NVIDIA Merlin.",
    epilog="Start here: retrieval quickstart FILE, or retrieval run recipes/movielens-100k.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def client_options(
    tls_ca: Annotated[str | None, typer.Option(envvar="RETRIEVAL_TLS_CA", help="PEM: CA; turns on TLS.")] = None,
    tls_cert: Annotated[str | None, typer.Option(envvar="RETRIEVAL_TLS_CERT", help="PEM: our certificate.")] = None,
    tls_key: Annotated[str | None, typer.Option(envvar="RETRIEVAL_TLS_KEY", help="PEM: the key of it.")] = None,
    tls_name: Annotated[str | None, typer.Option(envvar="RETRIEVAL_TLS_NAME", help="Server's name.")] = None,
    proxy: Annotated[
        bool | None, typer.Option("--proxy/--no-proxy", help="Use the environment's proxy; default: not.")
    ] = None,
) -> None:
    """Keep how to speak to a server, for the command that follows."""
    from ensemble.client.channels import PROXY_VARIABLE
    from ensemble.client.tls import set_environment

    set_environment({"CA": tls_ca, "CERT": tls_cert, "KEY": tls_key, "NAME": tls_name})
    if proxy is not None:
        os.environ[PROXY_VARIABLE] = "1" if proxy else "0"


def main() -> None:
    """Entry point of the `retrieval` command."""
    from ensemble.server.environment import reach_this_machine_directly
    from workflows.files import write_for_oneself

    write_for_oneself()
    reach_this_machine_directly()
    os.environ["PYTHONSAFEPATH"] = "1"  # Pythons that libraries start (Dask's workers) import nothing from here
    app()
