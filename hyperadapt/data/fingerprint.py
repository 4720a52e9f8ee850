"""What identifies a set of image files without reading them all: names, sizes and the facts about them."""

import json
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any


def files_fingerprint(root: Path, ids: Sequence[str], facts: Any) -> str:
    """Hex sha256 over the facts and over the path and size in bytes of each file.

    A file replaced by one of the same size keeps the fingerprint; reading every byte of a large data set at each start
    would cost more than that case is worth.

    Args:
        root: folder that the ids are relative to.
        ids: paths of the files, in pool order.
        facts: whatever else identifies the data set (class names, split lists), as plain data.
    """
    digest = sha256(json.dumps(facts, sort_keys=True).encode())
    for path in ids:
        digest.update(f"{path}\0{os.stat(root / path).st_size}\n".encode())  # noqa: PTH116 - a third of Path.stat's time
    return digest.hexdigest()
