"""What the commands of `hyperadapt bench` do, once arguments are parsed."""

import argparse
import logging
from collections.abc import Sequence

from rich.console import Console

from hyperadapt.backbone import Backbone, load_backbone
from hyperadapt.bench import Settings, bench, frozen_features
from hyperadapt.data import AbstractImageSource, AbstractSource, FeatureSource, load_source
from hyperadapt.errors import InputError
from hyperadapt.features import AbstractFrozenFeatures
from hyperadapt.hierarchy import read_class_tree
from hyperadapt.methods import Method, load_method, named_methods
from hyperadapt.report.published import FLAGS, declared_flags
from hyperadapt.report.table import HEADER, base_to_novel_rows, cells, exam_table, percent
from hyperadapt.selection import Place, SelectSettings, climb, read_space
from hyperadapt.terminal import TerminalReporter, plain_lines, side_by_side, table


def demo(arguments: argparse.Namespace) -> int:
    """Base-to-novel on drawn birds with the embedded CLIP."""
    fixed = {"protocol": "base-to-novel", "backbone": "tiny", "views": 3}
    arguments = argparse.Namespace(**vars(arguments), **fixed, skip_corrupt=False, together=False)
    return _run(load_source(world="birds"), [], arguments)


def run_protocol(arguments: argparse.Namespace) -> int:
    """The protocol that was named, on the sources that were named."""
    tested = [load_source(**{kind: name}) for kind in ("features", "data", "world") for name in _tests(arguments, kind)]
    source = named_source(arguments)
    file, ids = getattr(arguments, "hierarchy", None), getattr(arguments, "hierarchy_ids", None)
    if file is not None:
        source.tree = read_class_tree(file, source.class_names, ids)
    elif ids is not None:
        raise InputError(f"--hierarchy-ids names leaves of the tree of --hierarchy, got {ids} alone; give both")
    return _run(source, tested, arguments)


def _tests(arguments: argparse.Namespace, kind: str) -> list[str]:
    """Test sets of one kind; protocols that score their own source have none."""
    return getattr(arguments, f"test_{kind}", [])


def named_source(arguments: argparse.Namespace) -> AbstractSource:
    """The data set that was named, with the templates that were given."""
    source = load_source(features=arguments.features, data=arguments.data, world=arguments.world)
    if arguments.template:
        if not isinstance(source, AbstractImageSource):
            raise InputError("--template needs images: a feature set holds its texts already")
        source.templates = tuple(arguments.template)
    return source


def named_backbone(arguments: argparse.Namespace) -> Backbone:
    """The backbone that was named; commands without an option for its memory have the default."""
    memory = {"prompt_memory_gib": arguments.prompt_memory} if "prompt_memory" in arguments else {}
    return load_backbone(arguments.backbone, device=str(arguments.device), **memory)


def named_features(
    sources: Sequence[AbstractSource], arguments: argparse.Namespace, keep_parts: bool
) -> list[AbstractFrozenFeatures]:
    """Features of several sources, under one backbone that is loaded once."""
    stored = all(isinstance(source, FeatureSource) for source in sources)
    backbone = arguments.backbone if stored else named_backbone(arguments)
    device, views, cache = arguments.device, arguments.views, not getattr(arguments, "no_cache", False)
    return [frozen_features(source, backbone, device, views, keep_parts, cache) for source in sources]


def with_controls(names: Sequence[str], controls: bool, towers: bool = True) -> list[Method]:
    """Methods by name, each once, and what must stand beside them.

    Args:
        names: of methods or recipe files; "all" stands for every method by name.
        controls: whether to add these.
        towers: whether a text tower is at hand; without one "all" leaves out what learns prompts.
    """
    known = [name for name, method in named_methods().items() if towers or not method.needs_tower]
    asked = [each for name in names for each in (known if name == "all" else [name])]
    methods = {method.name: method for method in map(load_method, asked)}
    if not towers and (lost := [name for name, method in methods.items() if method.needs_tower]):
        raise InputError(
            f"stored features have no text tower, which {', '.join(lost)} cannot do without; leave "
            f"{'it' if len(lost) == 1 else 'them'} out, or give images (--data, --world)"
        )
    if controls:
        methods.update({control.name: control for method in [*methods.values()] for control in method.controls()})
    return list(methods.values())


def _run(source: AbstractSource, tested: Sequence[AbstractSource], arguments: argparse.Namespace) -> int:
    logging.disable(logging.ERROR)  # libraries log what is then raised; the user gets one line
    methods = with_controls(arguments.methods, arguments.controls, not isinstance(source, FeatureSource))
    shots, seeds = tuple(dict.fromkeys(arguments.shots)), tuple(dict.fromkeys(arguments.seeds))
    settings = Settings(shots, seeds, arguments.out, arguments.skip_corrupt, arguments.together)
    features, *others = named_features([source, *tested], arguments, any(m.pools_parts for m in methods))
    protocol, reporter, console = arguments.protocol, TerminalReporter(Console(stderr=True)), Console()
    records = bench(protocol, features, methods, settings, reporter, others)
    say = plain_lines(console)
    shot_list, seed_list = (" ".join(map(str, numbers)) for numbers in (shots, seeds))
    say(f"{protocol} on {source.name}: {features.backbone_name}, {shot_list} shots, seeds {seed_list}, top-1 %")
    if protocol == "base-to-novel":
        header, rows = HEADER, [cells(row) for row in base_to_novel_rows(records)]
    else:
        header, rows = exam_table(records)
    if len(shots) == 1:
        header, rows = (header[0], *header[2:]), [(row[0], *row[2:]) for row in rows]
    for piece in side_by_side(console, header, rows, words=1, spare=("trained", "s/run")):
        console.print(piece)
    correct, total = (records[0]["zero_shot_all_classes"][key] for key in ("correct", "total"))
    score = f"{percent(correct / total)} % ({correct} of {total} images)"
    say(f"zero-shot top-1 over all {len(source.class_names)} classes: {score}")
    for flag in declared_flags(records):
        say(f"{flag}: {FLAGS[flag]}")
    say(f"{len(records)} result files in {arguments.out}")
    return 0


def select(arguments: argparse.Namespace) -> int:
    """A search on base classes of the data sets that were named."""
    logging.disable(logging.ERROR)  # libraries log what is then raised; the user gets one line
    space = read_space(arguments.space)
    sources = [load_source(features=folder) for folder in arguments.features]
    sources += [load_source(world=name) for name in arguments.world]
    shots = arguments.shots * len(sources) if len(arguments.shots) == 1 else arguments.shots
    if not sources or len(shots) != len(sources) or arguments.cuts < 1:
        raise InputError(
            "bench select needs at least one data set, --shots once or one a data set, and --cuts >= 1, got "
            f"{len(sources)} data sets, {len(arguments.shots)} shots and {arguments.cuts} cuts"
        )
    found = named_features(sources, arguments, keep_parts=True)
    places = [Place(features, k) for features, k in zip(found, shots, strict=True)]
    settings = SelectSettings(tuple(dict.fromkeys(arguments.seeds)), arguments.cuts, arguments.out)
    ladder = climb(space, places, settings, TerminalReporter(Console(stderr=True)))
    console = Console()
    keys = ("base", "novel", "harmonic_mean", "gain", "standard_error")
    rows = [
        (rung["name"], row["option"], *(f"{100 * row[key]:.2f}" for key in keys), "kept" if row["kept"] else "")
        for rung in ladder["rungs"]
        for row in rung["trials"]
    ]
    console.print(table(console, ("question", "answer", "base", "novel", "HM", "gain", "error", ""), rows, words=2))
    say = plain_lines(console)
    say("per cent, on base classes alone; gain over what stood, with its standard error over tasks")
    say(f"recipe in {arguments.out / 'recipe.yaml'}, ladder in {arguments.out / 'ladder.json'}")
    return 0
