"""The command line. Commands import what they need when they run, so that `--help` is fast."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import to_builtins

from retrieval.commands import sign as signing
from retrieval.commands.check import check
from retrieval.commands.classify import classify
from retrieval.commands.doctor import doctor
from retrieval.commands.embeddings import embeddings
from retrieval.commands.export import export
from retrieval.commands.features import Scheduler, Workers, features
from retrieval.commands.init import init
from retrieval.commands.items import app as items
from retrieval.commands.plan import plan
from retrieval.commands.promote import app as releases
from retrieval.commands.promote import diff, promote, rollback
from retrieval.commands.rank import rank
from retrieval.commands.recommend import recommend
from retrieval.commands.requests import requests
from retrieval.commands.serve import client_options, serve
from retrieval.commands.status import health, status
from retrieval.commands.train import stage_or_run, train
from retrieval.console import Terminal, terminal
from retrieval.options import (
    ADDRESS,
    CACHE,
    RUNS,
    Address,
    AsJson,
    Cache,
    Exclude,
    FilterJson,
    Force,
    IncludeSeen,
    InRange,
    Layout,
    LimitPer,
    MinScore,
    NotTag,
    OnlyItems,
    RecipePath,
    RunPath,
    Runs,
    Tag,
    TagAll,
    Verbose,
)
from retrieval.overview import Overview
from retrieval.report.tables import groups_table, metrics_table, more_tables, read_json
from retrieval.runs.recipe import load_recipe
from retrieval.runs.run import Run, advance
from retrieval.runs.stages import STAGES

if TYPE_CHECKING:
    from retrieval.runs.serving import Load

app = typer.Typer(
    cls=Overview,
    help="From raw interactions to a served top-k answer: two-tower retrieval on NVIDIA Merlin.",
    epilog="Start here: retrieval run recipes/movielens-100k.toml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(items, name="items")
app.callback()(client_options)
app.command()(serve)
app.command()(status)
app.command()(health)
app.command()(promote)
app.command()(rollback)
app.command()(diff)
app.add_typer(releases, name="releases")
app.command()(signing.keys)
app.command()(signing.sign)
app.command()(signing.verify)
app.command()(init)
app.command()(check)
app.command()(embeddings)
app.command()(classify)
app.command()(export)
app.command()(recommend)
app.command()(requests)
app.command()(plan)
app.command()(doctor)


def main() -> None:
    """Entry point of the `retrieval` command."""
    from ensemble.server.environment import reach_this_machine_directly
    from workflows.files import write_for_oneself

    write_for_oneself()
    reach_this_machine_directly()
    os.environ["PYTHONSAFEPATH"] = "1"  # Pythons that libraries start (Dask's workers) import nothing from here
    app()


def _stage_command(name: str, text: str) -> None:
    """Add the command of one stage that takes a recipe; `text` is its help."""

    @app.command(name, help=text)
    def command(
        recipe: RecipePath,
        runs: Runs = RUNS,
        cache: Cache = CACHE,
        force: Force = False,
        json: AsJson = False,
        verbose: Verbose = False,
    ) -> None:
        with terminal(verbose) as out:
            (done,) = advance(Run.create(load_recipe(recipe), runs, STAGES), [name], cache, out, force)
            out.stage(done, json)


_stage_command(
    "fetch",
    """Download the source and store validated tables.

    \b
    retrieval fetch recipes/movielens-100k.toml
    retrieval fetch recipes/movielens-100k.toml --runs /data/runs --json
    """,
)
app.command()(features)
app.command()(train)
app.command()(rank)


@app.command()
def evaluate(
    run: RunPath,
    cache: Cache = CACHE,
    peers: Annotated[
        bool, typer.Option("--peers", help="Fit popularity, item KNN, EASE and ALS, and compare.")
    ] = False,
    force: Force = False,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure recall, hit rate, ndcg, mrr and coverage on the test rows, beside popularity.

    With --peers: beside other kinds of model fitted to the same rows. The figures are kept in peers.json.

    \b
    retrieval evaluate runs/movielens-100k
    retrieval evaluate runs/movielens-100k --json
    retrieval evaluate runs/movielens-100k --peers
    """
    with terminal(verbose) as out:
        if peers:
            from retrieval.commands.evaluate import PEERS, peers_table

            opened = Run.open(run, (*STAGES, PEERS))
            advance(opened, ["peers"], cache, out, force)
            found = read_json(opened.directory / "peers.json")
            out.json(found) if json else out.table(peers_table(found))
            return
        opened = Run.open(run, STAGES)
        advance(opened, ["evaluate"], cache, out, force)
        metrics = read_json(opened.directory / "metrics.json")
        if json:
            out.json(metrics)
        else:
            for table in (metrics_table(metrics), groups_table(metrics), *more_tables(metrics)):
                out.table(table)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Directories of runs.")],
    out_path: Annotated[
        Path | None, typer.Option("--out", help="Also write a page with curves, NAME.html, and NAME.json.")
    ] = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Put runs side by side: their metrics, and with --out recall over k and over the epochs.

    \b
    retrieval compare runs/movielens-100k runs/movielens-100k-history
    retrieval compare runs/* --out compare.html --json
    """
    with terminal(verbose) as out:
        from retrieval.commands.compare import compare as read_runs
        from retrieval.commands.compare import compare_table, write_page

        found = read_runs(runs)
        if out_path:
            write_page(found, out_path)
            out.say(f"page: {out_path}")
        out.json(found) if json else out.table(compare_table(found))


@app.command()
def tune(
    recipe: RecipePath,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="When to stop.")],
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Stop at this many trials in all.")] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="SECTION.FIELD=LOW..HIGH, with :log if so, or =ONE,OTHER.")
    ] = None,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Search recipe fields by the validation part and write the best recipe to RUN/tune/best.toml.

    The same command again continues the search. Test rows are not looked at.

    \b
    retrieval tune recipes/movielens-100k.toml --minutes 30
    retrieval tune recipes/movielens-100k.toml --minutes 60 --trials 20 \\
        --field train.learning_rate=0.001..0.01:log --field model.dropout=0.2..0.6 \\
        --field train.schedule=constant,cosine --field "model.tower=[[128,64],[256,64]]"
    """
    with terminal(verbose) as out:
        from retrieval.commands.tune import Budget, tune_table
        from retrieval.commands.tune import tune as search

        found = search(recipe, runs, cache, field or [], Budget(minutes, trials), out)
        if json:
            out.json(found)
        else:
            out.table(tune_table(found))
            out.results.print(f"best recipe: {found['best_recipe']}", soft_wrap=True)


@app.command()
def release(
    run: RunPath,
    layout: Annotated[
        str | None, typer.Option("--layout", help="fused, chained or both, instead of the recipe's [serving] layout.")
    ] = None,
    sign: signing.Key = None,
    cache: Cache = CACHE,
    force: Force = False,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write the release and the Triton model repository.

    \b
    retrieval release runs/movielens-100k
    retrieval release runs/movielens-100k --layout both
    retrieval release runs/movielens-100k --sign keys/release.pem
    retrieval release runs/movielens-100k --json
    """
    with terminal(verbose) as out:
        opened = Run.open(run, STAGES) if layout is None else Run.open(run, STAGES).with_layout(layout)
        done = advance(opened, ["release"], cache, out, force)
        if sign is not None:
            signing.sign_source(run, sign)
        out.json(done[0]) if json else out.results.print(done[0]["outputs"][-1])


@app.command(name="run")
def run_recipe(
    recipe: RecipePath,
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    since: Annotated[
        str | None, typer.Option("--from", help="Run this stage and all after it again; or go on from this run.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run every stage: fetch, features, train, evaluate, release. Finished ones with the same inputs are kept.

    \b
    retrieval run recipes/movielens-100k.toml
    retrieval run recipes/movielens-100k.toml --from train
    retrieval run recipes/synthetic.toml --workers 2
    retrieval run shop.toml --runs runs/tuesday --from runs/monday/shop
    """
    with terminal(verbose) as out:
        loaded, since = stage_or_run(load_recipe(recipe), runs, since)
        run = Run.create(loaded, runs, STAGES).on(workers, scheduler)
        opened, done = _run_all(out, run, cache, since)
        metrics = read_json(opened.directory / "metrics.json")
        page = _report(out, opened)
        if json:
            out.json({"run": str(opened.directory), "stages": done, "metrics": metrics, "report": str(page)})
        else:
            for table in (metrics_table(metrics), *more_tables(metrics)):
                out.table(table)
            out.results.print(f"report: {page}", soft_wrap=True)


@app.command()
def report(run: RunPath, verbose: Verbose = False) -> None:
    """Write report.html, one self-contained page: curves, metrics, examples, latency.

    \b
    retrieval report runs/movielens-100k
    """
    with terminal(verbose) as out:
        opened = Run.open(run, STAGES)
        out.results.print(str(_report(out, opened)), soft_wrap=True)


@app.command()
def query(
    user: Annotated[list[str], typer.Option("--user", help="A user id; may be repeated.")],
    address: Address = ADDRESS,
    top_k: Annotated[int, typer.Option("--top-k", help="How many items per user.")] = 10,
    exclude: Exclude = None,
    include_seen: IncludeSeen = False,
    column: Annotated[list[str] | None, typer.Option("--column", help="NAME=VALUE, a query column.")] = None,
    timestamp: Annotated[int | None, typer.Option("--timestamp", help="Ask as of then, seconds since 1970.")] = None,
    watched: Annotated[list[str] | None, typer.Option("--watched", help="ITEM or ITEM@SECONDS, just watched.")] = None,
    tag: Tag = None,
    tag_all: TagAll = None,
    not_tag: NotTag = None,
    in_range: InRange = None,
    limit_per: LimitPer = None,
    min_score: MinScore = None,
    only_items: OnlyItems = None,
    filter_json: FilterJson = None,
    run: Annotated[Path | None, typer.Option("--run", help="A run, for the items' titles.")] = None,
    model: Annotated[str, typer.Option("--model", help="retrieval_chained asks the chained layout.")] = "retrieval",
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Ask a running server for users' recommendations.

    \b
    retrieval query --user 196 --run runs/movielens-100k
    retrieval query --user 196 --user 22 --top-k 5 --exclude 50 --exclude 181 --json
    retrieval query --user 100000 --column age=33 --column occupation=artist --address 127.0.0.1:8001
    retrieval query --user 196 --watched 50 --watched 181@893286638 --timestamp 893286700
    retrieval query --user 196 --tag genres=Comedy --not-tag genres=Horror --range year=1990: --limit-per year=2
    """
    with terminal(verbose) as out:
        from retrieval.commands.query import Question, ask
        from retrieval.runs.filter_options import FilterOptions

        tags = tag or [], tag_all or [], not_tag or []
        options = FilterOptions(*tags, in_range or [], limit_per, min_score, only_items or [], filter_json)
        question = Question(user, top_k, exclude or [], include_seen, column or [], timestamp, watched or [], options)
        answers = ask(address, question, run, model)
        if json:
            out.json([answer.as_json() for answer in answers])
        else:
            for answer in answers:
                out.table(answer.as_table())


@app.command()
def bench(
    run: RunPath,
    address: Annotated[
        str | None, typer.Option("--address", help="A running server; without it one is started for the benchmark.")
    ] = None,
    concurrency: Annotated[list[int] | None, typer.Option("--concurrency", help="Requests in flight.")] = None,
    batch: Annotated[list[int] | None, typer.Option("--batch", help="Rows per request.")] = None,
    interval_ms: Annotated[int | None, typer.Option("--interval-ms", help="Length of a measurement window.")] = None,
    layout: Layout = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Search server options for --p99-ms instead.")] = False,
    p99_ms: Annotated[float, typer.Option("--p99-ms", help="Latency that --sweep must keep to.")] = 10.0,
    minutes: Annotated[float, typer.Option("--minutes", help="When --sweep stops.")] = 5.0,
    json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure latency, throughput and server CPU with perf_analyzer, on requests drawn from the run.

    What is left out comes from the recipe's [bench]. The points are kept in bench.json, bench.png and the report.
    With --sweep: the instances, threads and queue delay that serve most rows within a latency, as lines for the recipe;
    everything measured is kept in sweep.json and sweep.png.

    \b
    retrieval bench runs/movielens-100k
    retrieval bench runs/movielens-100k --batch 1 --batch 32 --concurrency 1 --concurrency 8 --json
    retrieval bench runs/movielens-100k --address 127.0.0.1:8001
    retrieval bench runs/movielens-100k --sweep --p99-ms 10 --minutes 5
    """
    with terminal(verbose) as out:
        from ensemble.measure.points import table
        from retrieval.runs.serving import Load, measure, target_of, temporary_server

        opened, load = Run.open(run, STAGES), Load(batch, concurrency, interval_ms, layout)
        if sweep:
            _sweep(out, opened, load, p99_ms, minutes, json)
            return
        if address is None:
            with temporary_server(opened, out.say, out.say if verbose else None) as server:
                target = target_of(opened, load, server.addresses.grpc, server.process_id)
                points = measure(opened, target, load, out.step)
        else:
            points = measure(opened, target_of(opened, load, address), load, out.step)
        _report(out, opened)
        out.json(to_builtins(points)) if json else out.table(table(points))


def _sweep(out: Terminal, run: Run, load: Load, p99_ms: float, minutes: float, json: bool) -> None:
    from ensemble.measure.sweep_view import conclusion, sweep_table
    from retrieval.commands.bench import sweep_run

    found = sweep_run(run, load, p99_ms, minutes, out.step)
    if json:
        out.json(to_builtins(found))
        return
    out.table(sweep_table(found))
    out.results.print(conclusion(found), soft_wrap=True)


@app.command()
def demo(
    recipe: Annotated[Path, typer.Argument(metavar="[RECIPE]")] = Path("recipes/movielens-100k.toml"),
    runs: Runs = RUNS,
    cache: Cache = CACHE,
    verbose: Verbose = False,
) -> None:
    """Run a recipe, serve it, show a few users' recommendations and a short benchmark, stop the server.

    \b
    retrieval demo
    retrieval demo recipes/movielens-100k.toml
    """
    with terminal(verbose) as out:
        start = time.monotonic()
        opened, done = _run_all(out, Run.create(load_recipe(recipe), runs, STAGES), cache)
        from retrieval.commands.demo import show
        from retrieval.report.examples import any_user

        page, user = show(out, opened), any_user(opened.directory)
        kept = sum(stage["kept"] for stage in done)
        seconds = time.monotonic() - start
        out.results.print(f"\ndone in {seconds:.0f} s; {kept} of {len(done)} stages were kept", soft_wrap=True)
        out.results.print(f"report:     {page}", soft_wrap=True)
        out.results.print(f"serve it:   retrieval serve {opened.directory}", soft_wrap=True)
        out.results.print(f"ask it:     retrieval query --user {user} --run {opened.directory}", soft_wrap=True)


def _run_all(out: Terminal, run: Run, cache: Path, since: str | None = None) -> tuple[Run, list[dict[str, Any]]]:
    """Run every stage in order; from `since` on, whether or not it is finished."""
    names = [stage.name for stage in STAGES]
    again = names.index(since) if since else len(names)
    done = advance(run, names[:again], cache, out) + advance(run, names[again:], cache, out, force=True)
    return run, done


def _report(out: Terminal, run: Run) -> Path:
    from retrieval.report.page import write_report

    with out.working("report"):
        return write_report(run)
