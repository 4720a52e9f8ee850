"""What `hyperadapt bench grid`, `status`, `collect` and `table` do, once arguments are parsed."""

import argparse
import logging
from pathlib import Path

import yaml
from rich.console import Console

from hyperadapt.errors import InputError
from hyperadapt.grid import ENGINES, Cell, EngineOptions, GridFolder, State, expand, read_recipe, run_grid
from hyperadapt.grid.estimate import estimate
from hyperadapt.grid.session import grouped
from hyperadapt.report.collection import LEFT_OUT, collect, result_files, write_collection
from hyperadapt.report.details import detail_table
from hyperadapt.report.layout import FORMATS
from hyperadapt.report.mistakes import mistakes_table
from hyperadapt.report.papers import paper_tables
from hyperadapt.report.published import read_published
from hyperadapt.report.recalls import recall_tables
from hyperadapt.report.records import groups_of, read_records
from hyperadapt.results import write_bytes
from hyperadapt.terminal import TerminalReporter, plain_lines


def grid(arguments: argparse.Namespace) -> int:
    """Run the cells of a recipe, or say what running them would mean."""
    recipe = read_recipe(arguments.recipe)
    cells, console = expand(recipe), Console()
    _require_folders(cells, arguments.root)
    if arguments.dry_run:
        return _foresee(cells, GridFolder(arguments.out), console)
    logging.disable(logging.ERROR)  # libraries log what is then raised; the user gets one line
    gpus = recipe.gpus_per_worker if arguments.gpus is None else arguments.gpus
    threads = max(cell.threads for cell in cells)
    options = EngineOptions(arguments.workers, gpus, threads, arguments.retries, _scheduler(arguments.scheduler))
    engine, reporter = ENGINES[arguments.engine](options), TerminalReporter(Console(stderr=True))
    state = run_grid(
        cells,
        arguments.out,
        arguments.root,
        engine,
        reporter,
        device=arguments.device,
        retry_failed=arguments.retry_failed,
    )
    _show(state, console)
    return 1 if state.failed or state.left else 0


def status(arguments: argparse.Namespace) -> int:
    """Where a grid stands."""
    _show(GridFolder(arguments.folder).state(), Console())
    return 0


def collect_results(arguments: argparse.Namespace) -> int:
    """The results of a bench or a grid as one file."""
    document = collect(result_files(arguments.folder))
    write_collection(arguments.out, document)
    plain_lines(Console())(f"{len(document['runs'])} runs in {arguments.out}, without {', '.join(LEFT_OUT)}")
    return 0


def show_tables(arguments: argparse.Namespace) -> int:
    """Tables of the results of a bench or a grid."""
    records = read_records(arguments.folder)
    groups = groups_of(records, arguments.folder)
    rows = [row for path in arguments.published for row in read_published(path)]
    tables = paper_tables(groups, rows)
    over_trees = (mistakes_table(group, arguments.reference) for group in groups)
    tables += [each for each in over_trees if each is not None]
    if arguments.details:
        tables += [detail_table(group, arguments.reference) for group in groups]
    tables += recall_tables(records)
    text = FORMATS[arguments.format](tables)
    if arguments.out is None:
        print(text, end="")
    else:
        write_bytes(arguments.out, text.encode())
    missing = sum(group.missing for group in groups)
    if missing:
        TerminalReporter(Console(stderr=True)).say(f"{missing} of {sum(g.total for g in groups)} runs are missing")
    return 0


def _show(state: State, console: Console) -> None:
    say = plain_lines(console)
    for name, holder in state.running.items():
        say(f"running: {name} (process {holder.pid} on {holder.host})")
    for name, reason in state.failed.items():
        say(f"failed: {name}: {reason}")
    counts = {"done": state.done, "running": state.running, "failed": state.failed, "left": state.left}
    say(", ".join(f"{len(names)} {what}" for what, names in counts.items()))
    if state.failed:
        say("tracebacks are in the folder failed; --retry-failed runs these cells again")


def _foresee(cells: list[Cell], folder: GridFolder, console: Console) -> int:
    """Cells, parts that are there already, and the cost of the rest."""
    say = plain_lines(console)
    left = []
    for cell in cells:
        where = "done" if folder.result(cell.name).exists() else "failed" if folder.finished(cell.name) else "to run"
        say(f"{where}: {cell.name}")
        if where != "done":
            left.append(cell)
    for group in grouped(cells):
        ready = (folder.prepared / f"{group.name}.json").exists()
        features = (
            "given"
            if group.is_stored
            else "stored"
            if ready
            else f"made by {group.backbone} where the store lacks them"
        )
        say(f"features of {', '.join(group.sources)}: {features}, shared by {len(group.cells)} cells")
    say(f"{len(cells)} cells, {len(cells) - len(left)} done; {estimate(folder, left)}")
    return 0


def _require_folders(cells: list[Cell], root: Path) -> None:
    """Refuse a grid whose data is not there, before anything runs."""
    for name in dict.fromkeys(name for cell in cells for name in cell.sources):
        kind, _, place = name.partition(":")
        if kind != "world" and not (root / place).exists():
            raise InputError(f"no {root / place} for the data set {name} of the grid; give its place with --root")


def _scheduler(pairs: list[str]) -> dict[str, object]:
    """Settings for the scheduler, from KEY=VALUE."""
    wrong = next((pair for pair in pairs if "=" not in pair), None)
    if wrong is not None:
        raise InputError(f"--scheduler takes KEY=VALUE, such as slurm_partition=gpu, got {wrong!r}")
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}
