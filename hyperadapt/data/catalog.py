"""The benchmark data sets by their CoOp names: where their files lie, how they are prompted, how many images they have.

To add a data set, add one row to `CATALOG`.
"""

from dataclasses import dataclass

DEFAULT_TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class CatalogRow:
    """What is known of one benchmark data set before a file of it is read. None says: not fixed by the benchmark.

    Attributes:
        name: CoOp's configuration name.
        folder: Its folder under the common data root.
        image_dir: Below `folder`, where the paths of its split begin; "." for `folder` itself.
        split_file: CoOp's split file in `folder`; None where the split comes from folders or text files.
        classes: Number of classes.
        train, val, test: Number of images in each part.
        test_base, test_novel: Test images in each half of the base-to-novel protocol.
        template: The hand-written prompt of the zero-shot baseline; `{}` stands for the class name.
    """

    name: str
    folder: str
    image_dir: str
    split_file: str | None
    classes: int
    train: int | None
    val: int | None
    test: int
    test_base: int | None
    test_novel: int | None
    template: str = DEFAULT_TEMPLATE


def _split(name: str, folder: str, image_dir: str, *counts: int, template: str = DEFAULT_TEMPLATE) -> CatalogRow:
    return CatalogRow(name, folder, image_dir, f"split_zhou_{name}.json", *counts, template=template)


def _test_only(name: str, folder: str, image_dir: str, classes: int, test: int) -> CatalogRow:
    return CatalogRow(name, folder, image_dir, None, classes, None, None, test, None, None)


# The counts of a row read: classes, train, val, test, test of base classes, test of novel classes.
CATALOG: tuple[CatalogRow, ...] = (
    CatalogRow("ImageNet", "imagenet", "images", None, 1000, None, None, 50_000, 25_000, 25_000),
    _split("Caltech101", "caltech-101", "101_ObjectCategories", 100, 4128, 1649, 2465, 1549, 916),
    _split(
        "OxfordPets", "oxford_pets", "images", 37, 2944, 736, 3669, 1881, 1788,
        template="a photo of a {}, a type of pet.",
    ),
    _split("StanfordCars", "stanford_cars", ".", 196, 6509, 1635, 8041, 4002, 4039),
    _split(
        "OxfordFlowers", "oxford_flowers", "jpg", 102, 4093, 1633, 2463, 1053, 1410,
        template="a photo of a {}, a type of flower.",
    ),
    _split(
        "Food101", "food-101", "images", 101, 50_500, 20_200, 30_300, 15_300, 15_000,
        template="a photo of {}, a type of food.",
    ),
    CatalogRow(
        "FGVCAircraft", "fgvc_aircraft", "images", None, 100, 3334, 3333, 3333, 1666, 1667,
        template="a photo of a {}, a type of aircraft.",
    ),
    _split("SUN397", "sun397", "SUN397", 397, 15_880, 3970, 19_850, 9950, 9900),
    _split("DescribableTextures", "dtd", "images", 47, 2820, 1128, 1692, 864, 828, template="{} texture."),
    _split(
        "EuroSAT", "eurosat", "2750", 10, 13_500, 5400, 8100, 4200, 3900,
        template="a centered satellite photo of {}.",
    ),
    _split(
        "UCF101", "ucf101", "UCF-101-midframes", 101, 7639, 1898, 3783, 1934, 1849,
        template="a photo of a person doing {}.",
    ),
    _test_only("ImageNetV2", "imagenetv2", "imagenetv2-matched-frequency-format-val", 1000, 10_000),
    _test_only("ImageNetSketch", "imagenet-sketch", "images", 1000, 50_889),
    _test_only("ImageNetA", "imagenet-adversarial", "imagenet-a", 200, 7500),
    _test_only("ImageNetR", "imagenet-rendition", "imagenet-r", 200, 30_000),
)  # fmt: skip


def find_row(name: str) -> CatalogRow | None:
    """The row whose CoOp name, folder or split file name this is, or None.

    Example:
        >>> find_row("split_zhou_EuroSAT.json").image_dir
        '2750'
    """
    for row in CATALOG:
        if name in (row.name, row.folder, row.split_file):
            return row
    return None


def template_for(name: str) -> str:
    """The hand-written prompt of a data set, given its CoOp name, folder or split file name.

    Example:
        >>> template_for("DescribableTextures"), template_for("my own photos")
        ('{} texture.', 'a photo of a {}.')
    """
    row = find_row(name)
    return row.template if row else DEFAULT_TEMPLATE
