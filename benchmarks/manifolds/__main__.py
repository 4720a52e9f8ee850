"""Accuracy and speed of the ball beside geoopt and, where it is installed, HypLL.

python -m benchmarks.manifolds [--device cpu] [--rounds 15] [--only accuracy|speed] [--compiled] [--out FILE.json]
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch

from benchmarks.manifolds import accuracy, speed
from benchmarks.manifolds.peers import all_peers, compiled


def table(title: str, rows: list[dict[str, Any]], names: list[str], against: str | None = None) -> str:
    """Rows as a Markdown table; ``against`` adds how many times faster ours is than that library."""
    head = ["quantity", "condition", *(["target"] if "target" in rows[0] else ["unit"]), *names]
    head += [f"{against} / ours"] if against else []
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["quantity"], row["condition"]]
        cells.append(row["unit"] if "unit" in row else _figure(row["target"]))
        cells += [_figure(row["values"].get(n)) for n in names]
        if against:
            other, mine = row["values"].get(against), row["values"].get(names[0])
            cells.append(f"{other / mine:.1f}" if other and mine else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main() -> None:
    """Measure, print, and write one JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", choices=["accuracy", "speed"])
    parser.add_argument("--compiled", action="store_true", help="time the operations through torch.compile too")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    torch.set_num_threads(1)
    peers = all_peers()
    names = [p.name for p in peers]
    machine = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{platform.processor() or platform.machine()}, 1 thread"
    )
    result: dict[str, Any] = {"torch": torch.__version__, "device": machine, "rounds": chosen.rounds}
    if chosen.only != "speed":
        result["accuracy"] = accuracy.measure(peers)
        print(
            table(
                "Worst relative error against 80 digits, c = 1, float32 where nothing else is said",
                result["accuracy"],
                names,
            )
        )
    if chosen.only != "accuracy":
        if chosen.compiled:
            peers.append(compiled())
            names.append(peers[-1].name)
        result["speed"] = speed.measure(peers, device, chosen.rounds)
        print(table(f"Time and memory ({machine}, torch {torch.__version__})", result["speed"], names, names[1]))
    if chosen.out:
        temporary = chosen.out.with_suffix(".partial")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(chosen.out)


if __name__ == "__main__":
    main()
