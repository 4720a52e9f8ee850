"""The command line: `hyperadapt demo`, `bench`, `fit`, `data` and `methods`."""

import argparse
import os
import sys
import warnings
from pathlib import Path

from hyperadapt import __version__
from hyperadapt.bench_options import (
    MAIN_METHODS,
    add_bench_commands,
    add_device_and_out,
    add_run_options,
    add_source_options,
)
from hyperadapt.data_commands import add_data_commands, run_data
from hyperadapt.errors import InputError
from hyperadapt.extract_commands import add_extract_command, run_extract


def parser() -> argparse.ArgumentParser:
    """The whole command line; building it imports neither torch nor the methods."""
    top = argparse.ArgumentParser(
        prog="hyperadapt", description="Few-shot adaptation of a frozen CLIP to fine-grained classes, known and new."
    )
    top.add_argument("--version", action="version", version=f"hyperadapt {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="the main job on embedded data: base-to-novel on drawn birds with the embedded CLIP"
    )
    add_run_options(demo, MAIN_METHODS, out=Path("out/demo"), controls=False)

    bench = commands.add_parser("bench", help="run a protocol on your data, stored features or an embedded world")
    protocols = bench.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL")
    add_bench_commands(protocols)

    fit = commands.add_parser("fit", help="train one method on shots of all classes and keep the adapter")
    add_source_options(fit)
    fit.add_argument("--method", default="lathadapter", metavar="METHOD", help="name or recipe file")
    fit.add_argument("--shots", type=int, default=16, help="training images a class (default 16)")
    fit.add_argument("--seed", type=int, default=1, help="of the draw, the batches, the weights (default 1)")
    fit.add_argument("--precision", choices=("float32", "bf16"), help="instead of the method's own")
    add_device_and_out(fit, out=None)

    add_data_commands(commands)
    add_extract_command(commands)
    commands.add_parser("methods", help="list the methods")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments without the program's name; those of the process when None.

    Returns:
        Exit status: 0 done, 1 a run failed, 2 input that cannot be used, 130 interrupted.
    """
    arguments = parser().parse_args(argv)
    # Waiting threads sleep: steps are short, and beside other programs spinning threads made them many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.showwarning = lambda message, *_rest, **_more: print(f"hyperadapt: warning: {message}", file=sys.stderr)
    try:
        if arguments.command == "data":
            return run_data(arguments)
        if arguments.command == "extract":
            return run_extract(arguments)
        from hyperadapt import bench_commands, commands, grid_commands
        from hyperadapt.retrieval.command import retrieval

        if arguments.command == "methods":
            return commands.list_methods()
        run = {
            "collect": grid_commands.collect_results,
            "demo": bench_commands.demo,
            "fit": commands.fit,
            "grid": grid_commands.grid,
            "retrieval": retrieval,
            "select": bench_commands.select,
            "status": grid_commands.status,
            "table": grid_commands.show_tables,
        }
        return run.get(getattr(arguments, "protocol", arguments.command), bench_commands.run_protocol)(arguments)
    except InputError as error:
        _complain(f"error: {error}")
        return 2
    except FloatingPointError as error:
        _complain(f"error: {error}")
        return 1
    except OSError as error:
        _complain(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _complain("interrupted; finished runs are kept, others go on from their last checkpoint")
        return 130


def _complain(message: str) -> None:
    """One line on standard error; where several processes run one fit, the first one speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(f"hyperadapt: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
