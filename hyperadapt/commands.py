"""What the commands do, once arguments are parsed; the terminal's side of progress and tables."""

import argparse
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hyperadapt.bench import Settings, bench_base_to_novel, frozen_features
from hyperadapt.data import AbstractImageSource, AbstractSource, load_source
from hyperadapt.errors import InputError
from hyperadapt.methods import load_method, named_methods
from hyperadapt.report.table import HEADER, base_to_novel_rows, cells


@dataclass(frozen=True)
class TerminalReporter:
    """Progress bars and remarks on standard error, so that standard output holds the table alone."""

    console: Console

    @contextmanager
    def task(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """One bar, gone when its work is done."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            bar = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(bar, completed=done, total=total)

    def say(self, sentence: str) -> None:
        """One line."""
        self.console.print(f"note: {sentence}", highlight=False, soft_wrap=True, markup=False)


def demo(arguments: argparse.Namespace) -> int:
    """Base-to-novel on drawn birds with the embedded CLIP."""
    return _run(load_source(world="birds"), arguments, backbone="tiny", views=3, skip_corrupt=False)


def bench(arguments: argparse.Namespace) -> int:
    """Base-to-novel on the source that was named."""
    source = load_source(features=arguments.features, data=arguments.data, world=arguments.world)
    if arguments.template:
        if not isinstance(source, AbstractImageSource):
            raise InputError("--template needs images: a feature set holds its texts already")
        source.templates = tuple(arguments.template)
    return _run(source, arguments, arguments.backbone, arguments.views, arguments.skip_corrupt)


def _run(source: AbstractSource, arguments: argparse.Namespace, backbone: str, views: int, skip_corrupt: bool) -> int:
    logging.getLogger().setLevel(logging.ERROR)
    methods = [load_method(name) for name in dict.fromkeys(arguments.methods)]
    seeds = tuple(dict.fromkeys(arguments.seeds))
    settings = Settings(arguments.shots, seeds, arguments.out, skip_corrupt)
    reporter = TerminalReporter(Console(stderr=True))
    features = frozen_features(source, backbone, arguments.device, views)
    records = bench_base_to_novel(features, methods, settings, reporter)
    title = f"base-to-novel on {source.name}, {features.backbone_name}, {arguments.shots} shots, seeds {' '.join(map(str, seeds))} (top-1 %)"
    table = Table(*HEADER, title=title, title_justify="left")
    for row in base_to_novel_rows(records):
        table.add_row(*cells(row))
    console = Console()
    console.print(table)
    console.print(f"{len(records)} result files in {arguments.out}", highlight=False)
    return 0


def list_methods() -> int:
    """Name, summary, source and treatment of new classes of every method."""
    table = Table("method", "what it is", "source", "new classes", "needs the split")
    for method in named_methods().values():
        table.add_row(method.name, method.summary, method.source, method.novel, "yes" if method.knows_split else "")
    Console().print(table)
    return 0
