"""Options of `hyperadapt bench`, and those that other commands share with it; imports neither torch nor the methods."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAIN_METHODS = ("zero-shot", "clip-adapter", "lathadapter", "xrvlm")
"""What `demo` runs by default; `bench` adds the faithful reading of LatHAdapter, which brings its controls."""

PAIR_METHODS = ("zero-shot", "clip-adapter-both", "dcar")
"""What retrieval runs by default."""

SHOTS = (1, 2, 4, 8, 16)
"""The numbers of shots that the papers report."""


def add_bench_commands(commands: Any) -> None:
    """One command a protocol, and those that work on their results.

    Args:
        commands: what `add_subparsers` gave.
    """
    own = commands.add_parser(
        "base-to-novel", help="train on shots of half of the classes, score both halves (CoOp's rules)"
    )
    _add_protocol_options(own)
    _add_hierarchy(own)
    few = commands.add_parser("few-shot", help="train on shots of all classes, score the test part")
    _add_protocol_options(few, shots=SHOTS)
    _add_hierarchy(few)
    cross = commands.add_parser(
        "cross-dataset", help="train on all classes of one data set, score others by their own names"
    )
    _add_protocol_options(cross)
    _add_test_sets(cross)
    domains = commands.add_parser(
        "domain-generalization", help="train on one data set, score its classes, or some of them, in other domains"
    )
    _add_protocol_options(domains)
    _add_test_sets(domains)
    retrieval = commands.add_parser(
        "retrieval", help="train on images with captions, find each by the other: recall at 1, 5 and 10, both ways"
    )
    _add_retrieval_options(retrieval)
    select = commands.add_parser(
        "select", help="choose a recipe on base classes alone: a declared ladder of questions, every trial recorded"
    )
    _add_select_options(select)
    grid = commands.add_parser(
        "grid", help="run all cells of a recipe file: protocols, data sets, methods, shots and seeds, on any engine"
    )
    _add_grid_options(grid)
    status = commands.add_parser("status", help="what is done, running and failed in the folder of a grid")
    status.add_argument("folder", type=Path, metavar="DIR")
    collect = commands.add_parser(
        "collect", help="all results of a folder as one small file, of which `table` makes tables"
    )
    collect.add_argument("folder", type=Path, metavar="DIR", help="of a bench or a grid")
    collect.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write")
    table = commands.add_parser("table", help="tables of the results in a folder, in the papers' form")
    _add_table_options(table)


def _add_retrieval_options(command: argparse.ArgumentParser) -> None:
    """Options of retrieval."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--features", metavar="DIR", type=Path, help="features of pairs: images and captions in features.npz, meta.json"
    )
    source.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="images with captions.jsonl or captions.csv in it",
    )
    source.add_argument("--world", metavar="NAME", help="an embedded data set, whose captions state its attributes")
    _add_tower_options(command)
    _add_methods(
        command,
        PAIR_METHODS,
        True,
        "run DCAR without weights of tokens, without image prompts, with all negatives alike (default: they run)",
    )
    _add_seeds(command)
    add_device_and_out(command, out=None)


def _add_grid_options(command: argparse.ArgumentParser) -> None:
    """Options of a grid."""
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML: blocks of cells")
    command.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the folders that the recipe names lie (default .)",
    )
    command.add_argument(
        "--engine",
        choices=("serial", "processes", "ray", "slurm"),
        default="serial",
        help="where workers run: in this process, in processes of this machine, on a Ray cluster, as jobs of SLURM "
        "(the last two: extra cluster); default serial",
    )
    command.add_argument("--workers", type=int, default=2, help="workers at once, but for serial (default 2)")
    command.add_argument("--gpus", type=float, metavar="SHARE", help="share of a GPU a worker, instead of the recipe's")
    command.add_argument("--retries", type=int, default=3, help="how often a lost worker starts again (default 3)")
    command.add_argument(
        "--scheduler", nargs="+", default=[], metavar="KEY=VALUE", help="settings of SLURM jobs by submitit's names"
    )
    command.add_argument("--retry-failed", action="store_true", help="run failed cells again")
    command.add_argument(
        "--dry-run", action="store_true", help="print cells, features that are there already, and an estimate of cost"
    )
    add_device_and_out(command, out=None)


def _add_table_options(command: argparse.ArgumentParser) -> None:
    """Options of tables."""
    command.add_argument("folder", type=Path, metavar="DIR", help="of a bench or a grid, or a file of `collect`")
    command.add_argument("--format", choices=("markdown", "csv", "latex"), default="markdown", help="default markdown")
    command.add_argument("--out", type=Path, metavar="FILE", help="write it there instead of printing it")
    command.add_argument(
        "--published", type=Path, nargs="+", default=[], metavar="FILE", help="YAML files of others' figures"
    )
    command.add_argument(
        "--reference", default="zero-shot", metavar="METHOD", help="differences are to it (default zero-shot)"
    )
    command.add_argument(
        "--details",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also intervals, differences, class means and calibration (default: shown)",
    )


def _add_protocol_options(command: argparse.ArgumentParser, shots: Sequence[int] = (16,)) -> None:
    """Options of every protocol."""
    add_source_options(command)
    command.add_argument(
        "--skip-corrupt", action="store_true", help="leave out images that cannot be decoded, naming them"
    )
    command.add_argument(
        "--together",
        action="store_true",
        help="train the seeds of a method as one computation where it works on stored features: equal to a rounding, "
        "not resumed inside a run; pays for lathadapter-faithful (half the time), hardly for methods of large products",
    )
    add_run_options(command, (*MAIN_METHODS, "lathadapter-faithful"), None, shots)


def _add_hierarchy(command: argparse.ArgumentParser) -> None:
    """A tree of the classes; embedded data sets have one of their own."""
    command.add_argument(
        "--hierarchy",
        type=Path,
        metavar="FILE",
        help="tree of the classes, one edge a line, parent and child: results tell how far mistakes lie from the truth",
    )
    command.add_argument(
        "--hierarchy-ids",
        type=Path,
        metavar="FILE",
        help="leaf of each class: one a line by label, or leaf and class name (default: class names are leaves)",
    )


def _add_test_sets(command: argparse.ArgumentParser) -> None:
    """Options that name the data sets to score beside the one that is trained on."""
    command.add_argument(
        "--test-features", nargs="+", default=[], metavar="DIR", type=Path, help="feature sets to score"
    )
    command.add_argument("--test-data", nargs="+", default=[], metavar="DIR", type=Path, help="images to score")
    command.add_argument("--test-world", nargs="+", default=[], metavar="NAME", help="embedded data sets to score")


def _add_select_options(command: argparse.ArgumentParser) -> None:
    """Options of a search."""
    command.add_argument(
        "--space", type=Path, required=True, metavar="FILE", help="YAML: a recipe to start from and rungs of options"
    )
    command.add_argument(
        "--features", nargs="+", default=[], metavar="DIR", type=Path, help="feature sets to choose on"
    )
    command.add_argument("--world", nargs="+", default=[], metavar="NAME", help="embedded data sets to choose on")
    command.add_argument(
        "--shots", type=int, nargs="+", default=[16], help="training images a class: for all, or one a data set (16)"
    )
    command.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED", help="one draw each (default 1 2 3)"
    )
    command.add_argument("--cuts", type=int, default=3, help="ways to cut the base classes of each draw (default 3)")
    command.add_argument("--backbone", default="tiny", metavar="NAME", help="of the embedded data sets (default tiny)")
    command.add_argument("--views", type=int, default=3, help="augmented views of each training image (default 3)")
    add_device_and_out(command, out=None)


def add_source_options(command: argparse.ArgumentParser) -> None:
    """Options that name data, backbone and what is made of them."""
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", metavar="DIR", type=Path, help="a feature set: features.npz and meta.json")
    source.add_argument(
        "--data",
        metavar="DIR",
        type=Path,
        help="images: CoOp's layout, a data set of hyperadapt data list, or one folder a class",
    )
    source.add_argument(
        "--world",
        metavar="NAME",
        help="an embedded data set: birds, fish, flowers, vehicles, patterns, or birds-sketch etc.",
    )
    command.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="prompt template with {} for the class name; may be repeated (images only)",
    )
    _add_tower_options(command)


def _add_tower_options(command: argparse.ArgumentParser) -> None:
    """Options that say how images are encoded."""
    command.add_argument(
        "--backbone",
        default="tiny",
        metavar="NAME",
        help="tiny, NAME:TAG or NAME:/path of open_clip, hf-hub:..., local-dir:... (default tiny)",
    )
    command.add_argument(
        "--views", type=int, default=3, help="augmented views of each training image, beside the plain one (default 3)"
    )
    command.add_argument(
        "--no-cache",
        action="store_true",
        help="make image features anew and keep none; they are kept in $HYPERADAPT_CACHE, else ~/.cache/hyperadapt",
    )
    command.add_argument(
        "--prompt-memory",
        type=float,
        default=2.0,
        metavar="GIB",
        help="activations that learned prompts may keep for their gradient; beyond it classes pass the text tower in "
        "chunks, twice (default 2)",
    )


def add_run_options(
    command: argparse.ArgumentParser,
    methods: Sequence[str],
    out: Path | None,
    shots: Sequence[int] = (16,),
    controls: bool = True,
) -> None:
    """Options that every run shares."""
    _add_methods(
        command,
        methods,
        controls,
        "run what must stand beside a method with claims: LatHAdapter's twin in flat space and itself without its "
        f"regulariser, a text-free MLP and other texts beside XR-VLM (default: they {'run' if controls else 'do not'})",
    )
    command.add_argument(
        "--shots",
        type=int,
        nargs="+",
        default=list(shots),
        metavar="K",
        help=f"training images a class (default {' '.join(map(str, shots))})",
    )
    _add_seeds(command)
    add_device_and_out(command, out)


def _add_methods(command: argparse.ArgumentParser, methods: Sequence[str], controls: bool, claims: str) -> None:
    """What is run; `claims` says what the controls are."""
    command.add_argument(
        "--methods",
        nargs="+",
        default=list(methods),
        metavar="METHOD",
        help=f"names, recipe files, or all (default {' '.join(methods)})",
    )
    command.add_argument("--controls", action=argparse.BooleanOptionalAction, default=controls, help=claims)


def _add_seeds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="SEED", help="one run each (default 1 2 3)"
    )


def _folder(text: str) -> Path:
    """A folder that is there or can be made; looked at before anything is computed for it."""
    path = Path(text)
    place = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        problem = "is no folder" if not place.is_dir() else "cannot be written to"
        raise argparse.ArgumentTypeError(f"{place} {problem}; name another folder")
    return path


def add_device_and_out(command: argparse.ArgumentParser, out: Path | None) -> None:
    """Where it runs and where its files go."""
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (default auto)")
    command.add_argument(
        "--out",
        type=_folder,
        default=out,
        required=out is None,
        metavar="DIR",
        help=f"folder for result files{'' if out is None else f' (default {out})'}",
    )
