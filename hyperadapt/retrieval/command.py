"""What `hyperadapt bench retrieval` does, once arguments are parsed."""

import argparse
import logging

from rich.console import Console

from hyperadapt.bench_commands import named_backbone, with_controls
from hyperadapt.data.pairs import PairVectors, load_pairs
from hyperadapt.methods import named_methods
from hyperadapt.retrieval.bench import HEADER, bench_retrieval, recall_rows
from hyperadapt.retrieval.features import pair_features
from hyperadapt.terminal import TerminalReporter, plain_lines, side_by_side


def retrieval(arguments: argparse.Namespace) -> int:
    """Methods on the pairs that were named."""
    logging.disable(logging.ERROR)  # libraries log what is then raised; the user gets one line
    pairs = load_pairs(features=arguments.features, data=arguments.data, world=arguments.world)
    backbone = arguments.backbone if isinstance(pairs.source, PairVectors) else named_backbone(arguments)
    features = pair_features(pairs, backbone, arguments.device, arguments.views, not arguments.no_cache)
    seeds, console = tuple(dict.fromkeys(arguments.seeds)), Console()
    usable = [method for method in named_methods().values() if method.takes_captions]
    if isinstance(pairs.source, PairVectors):
        usable = [method for method in usable if not method.needs_tower]
    known = [method.name for method in usable]
    asked = [each for name in arguments.methods for each in (known if name == "all" else [name])]
    methods = with_controls(asked, arguments.controls)
    records = bench_retrieval(features, methods, seeds, arguments.out, TerminalReporter(Console(stderr=True)))
    say, found = plain_lines(console), records[0]["candidates"]
    say(f"retrieval on {pairs.name}: {features.backbone_name}, seeds {' '.join(map(str, seeds))}, recall %")
    for piece in side_by_side(console, HEADER, recall_rows(records), words=1, spare=("trained", "s/run")):
        console.print(piece)
    apart = f" in {found['galleries']} galleries of their own" if found["galleries"] > 1 else ""
    say(f"{found['images']} images and {found['captions']} captions{apart}; i2t: captions of an image, t2i: back")
    say(f"{len(records)} result files in {arguments.out}")
    return 0
