"""What there is in the world: data sets, their attributes, their coarse kinds and their fine classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hyperadapt.data.world import classes
from hyperadapt.data.world.birds import paint_bird
from hyperadapt.data.world.fish import paint_fish
from hyperadapt.data.world.flowers import paint_flower
from hyperadapt.data.world.patterns import paint_pattern
from hyperadapt.data.world.scene import Painter
from hyperadapt.data.world.vehicles import paint_vehicle


@dataclass(frozen=True)
class FineClass:
    """One label of a data set.

    Attributes:
        name: Readable name; it tells part of the attributes.
        named: Whether captions of the pretraining stream may use the name.
        coarse: Its kind, such as "finch".
        superordinate: The group of the kind, such as "songbird".
        attributes: Attribute name to value; "kind" comes first.
    """

    name: str
    named: bool
    coarse: str
    superordinate: str
    attributes: Mapping[str, str]

    @property
    def slug(self) -> str:
        """The name as one path segment."""
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Family:
    """One data set of the world before its images: classes, painter and wording.

    Attributes:
        name: Name of the data set.
        code: Number that seeds its images; never reused.
        noun: What templates call its members, such as "bird".
        painter: Draws an object of given attributes.
        turn: Tilt of its objects, standard deviation in radians.
        adjectives: Attribute name to the adjective that states it, with `{}` for the value.
        phrases: Attribute name to what follows "with" in a caption, with `{}` for the value.
        groups: Superordinate to its coarse kinds.
        fine: The classes in the order of their labels, which is alphabetical by name.
    """

    name: str
    code: int
    noun: str
    painter: Painter
    turn: float
    adjectives: Mapping[str, str]
    phrases: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]
    fine: tuple[FineClass, ...]


def _read(table: str, attributes: tuple[str, ...], groups: Mapping[str, tuple[str, ...]]) -> tuple[FineClass, ...]:
    group_of = {kind: group for group, kinds in groups.items() for kind in kinds}
    rows = []
    for line in table.strip().splitlines():
        head, _, tail = line.partition("|")
        flag, name = head.split(maxsplit=1)
        name = name.strip()
        kind = name.split()[-1]
        values = {"kind": kind, **dict(zip(attributes, tail.split(), strict=True))}
        rows.append(FineClass(name, flag == "*", kind, group_of[kind], values))
    return tuple(rows)


def _family(
    name: str,
    code: int,
    noun: str,
    painter: Painter,
    turn: float,
    wording: Mapping[str, tuple[str, str]],
    groups: Mapping[str, tuple[str, ...]],
    table: str,
) -> Family:
    """`wording` lists the attributes in the order of the table's columns: adjective and "with" phrase."""
    adjectives = {attribute: adjective for attribute, (adjective, _) in wording.items()}
    phrases = {attribute: phrase for attribute, (_, phrase) in wording.items()}
    fine = _read(table, tuple(wording), groups)
    return Family(name, code, noun, painter, turn, adjectives, phrases, groups, fine)


_FAMILIES: Final = (
    _family(
        "birds", 1, "bird", paint_bird, 0.18,
        {"body": ("{}", "a {} body"), "wing": ("{}-winged", "{} wings"), "crown": ("{}-capped", "a {} cap"),
         "belly": ("{}-bellied", "a {} belly"), "marking": ("{}", "a {} belly"), "beak": ("{}-billed", "a {} bill")},
        {"songbird": ("finch", "thrush", "swallow"), "waterbird": ("duck", "heron", "gull"),
         "hunter bird": ("owl", "hawk")},
        classes.BIRDS,
    ),
    _family(
        "fish", 2, "fish", paint_fish, 0.2,
        {"body": ("{}", "a {} body"), "belly": ("{}-bellied", "a {} belly"), "fin": ("{}-finned", "{} fins"),
         "tail": ("{}-tailed", "a {} tail"), "marking": ("{}", "{} sides"), "mask": ("{}-masked", "a {} mask")},
        {"reef fish": ("angelfish", "damselfish", "puffer"), "river fish": ("trout", "carp", "pike"),
         "sea fish": ("tuna", "shark")},
        classes.FISH,
    ),
    _family(
        "flowers", 3, "flower", paint_flower, 0.15,
        {"petal": ("{}", "{} petals"), "tip": ("{}-tipped", "{} tips"), "centre": ("{}-eyed", "a {} eye"),
         "marking": ("{}", "{} petals"), "leaf": ("{}-leaved", "{} leaves"), "stem": ("{}-stemmed", "a {} stem")},
        {"meadow flower": ("daisy", "poppy", "bluet"), "garden flower": ("rose", "tulip", "pansy"),
         "water flower": ("lily", "lotus")},
        classes.FLOWERS,
    ),
    _family(
        "vehicles", 4, "vehicle", paint_vehicle, 0.08,
        {"body": ("{}", "a {} body"), "roof": ("{}-topped", "a {} top"), "trim": ("{}-trimmed", "a {} trim"),
         "marking": ("{}", "{} sides"), "flag": ("{}-flagged", "a {} flag")},
        {"passenger car": ("sedan", "van", "bus"), "work vehicle": ("truck", "tractor"),
         "boat": ("ferry", "sailboat", "tugboat")},
        classes.VEHICLES,
    ),
    _family(
        "patterns", 5, "pattern", paint_pattern, 0.5,
        {"ground": ("{}-grounded", "a {} ground"), "figure": ("{}", "{} figures"),
         "accent": ("{}-threaded", "{} threads"), "size": ("{}", "{} figures"), "hem": ("{}-hemmed", "a {} hem")},
        {"line pattern": ("pinstripe", "zigzag", "wave"), "dot pattern": ("polka", "ring"),
         "block pattern": ("checker", "diamond", "plaid")},
        classes.PATTERNS,
    ),
)  # fmt: skip

FAMILIES: Final[dict[str, Family]] = {family.name: family for family in _FAMILIES}
"""The data sets by name."""
