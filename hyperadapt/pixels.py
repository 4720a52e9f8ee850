"""The tower's inputs of many views without the memory of them all: decoded ahead, kept while a budget lasts."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from hyperadapt.transfer import sent
from hyperadapt.views import DECODING_THREADS, View, ViewMaker

PIXELS_BUDGET_BYTES = 2 * 2**30
"""Inputs that one set of views keeps once they are decoded; at 224 pixels this is 3500 views."""


@final
class ViewPixels:
    """Indexed like a tensor (N, 3, H, W), and every index gives one; what it gives depends on the views alone.

    Args:
        maker: decodes and preprocesses.
        views: one a row.
        device: where the tensors go.
        budget_bytes: inputs kept in memory; those that come after it is spent are decoded whenever they are asked for.
    """

    def __init__(
        self, maker: ViewMaker, views: Sequence[View], device: torch.device, budget_bytes: int = PIXELS_BUDGET_BYTES
    ) -> None:
        self.maker, self.views, self.device = maker, list(views), device
        self.budget_bytes = budget_bytes
        self._kept: dict[View, Tensor] = {}
        self._coming: dict[View, Future[Tensor]] = {}
        self._decoders = ThreadPoolExecutor(DECODING_THREADS)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: Any) -> Float[Tensor, "n 3 h w"]:
        """Inputs of some rows.

        Args:
            index: a slice, or a one-dimensional tensor as tensors take it; one on the CPU waits for no device.

        Raises:
            InputError: naming the file that cannot be decoded.
        """
        rows = torch.arange(len(self))[index.cpu() if isinstance(index, Tensor) else index].tolist()
        self.expect(rows)
        coming = {self.views[row]: self._coming.pop(self.views[row]) for row in rows if self.views[row] in self._coming}
        made = {view: future.result() for view, future in coming.items()}
        pixels = torch.stack([made[v] if v in made else self._kept[v] for v in (self.views[row] for row in rows)])
        for view, each in made.items():
            if self.budget_bytes >= each.nbytes:
                self._kept[view] = each
                self.budget_bytes -= each.nbytes
        return sent(pixels, self.device)

    def expect(self, rows: Iterable[int]) -> None:
        """Begin to decode rows that will be asked for soon, in threads."""
        for view in (self.views[row] for row in rows):
            if view not in self._kept and view not in self._coming:
                self._coming[view] = self._decoders.submit(self._decoded, view)

    def _decoded(self, view: View) -> Float[Tensor, "3 h w"]:
        return self.maker.pixels([view])[0]

    def to(self, device: torch.device) -> "ViewPixels":
        """The same views, given on another device."""
        return ViewPixels(self.maker, self.views, device, self.budget_bytes)
