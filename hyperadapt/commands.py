"""What the commands beside `hyperadapt bench` do, once arguments are parsed."""

import argparse
import logging
from dataclasses import replace

from rich.console import Console

from hyperadapt.backbone import resolve_device
from hyperadapt.bench_commands import named_features, named_source
from hyperadapt.fit import FitSettings, fit_source
from hyperadapt.methods import load_method, named_methods
from hyperadapt.methods_listing import listed
from hyperadapt.terminal import TerminalReporter, plain_lines
from hyperadapt.training import process_group


def fit(arguments: argparse.Namespace) -> int:
    """One method on the shots of all classes; under torchrun, in several processes."""
    logging.disable(logging.ERROR)  # libraries log what is then raised; the user gets one line
    source, method = named_source(arguments), load_method(arguments.method)
    if arguments.precision is not None and method.training is not None:
        method = replace(method, training=replace(method.training, precision=arguments.precision))
    settings = FitSettings(arguments.shots, arguments.seed, arguments.out)
    with process_group(resolve_device(arguments.device)) as (world, device):
        reporter = TerminalReporter(Console(stderr=True, quiet=world.rank > 0))
        for sentence in source.notices(settings.shots):
            reporter.say(sentence)
        arguments.device = str(device)
        (features,) = named_features([source], arguments, method.pools_parts)
        with reporter.task(f"{method.name}, seed {settings.seed}") as progress:
            record, found = fit_source(features, method, settings, progress, world)
    say = plain_lines(Console(quiet=world.rank > 0))
    if found:
        say(f"this fit was found finished in {settings.out} and was not repeated")
    counts, seconds = record["counts"]["train"], record["seconds"]["train"]
    score = f"{counts['correct']} of {counts['total']} training images right"
    say(f"{method.name} on {source.name}, {settings.shots} shots, seed {settings.seed}: {score}, {seconds:.1f} s")
    say(f"adapter, history and result in {settings.out}")
    return 0


def list_methods() -> int:
    """Every method with its source, kind, trained parameters, treatment of new classes and flags."""
    say = plain_lines(Console())
    for method in named_methods().values():
        say(f"{method.name}: {method.summary}")
        for line in listed(method):
            say(f"    {line}")
    return 0
