"""Uniform random numbers as an input: a loss with a random choice asks an object for them and nothing else.

So one loss runs on a generator, on numbers recorded beforehand (compiled, or batched with ``torch.func.vmap``, where no
generator can be used), and with equal numbers on any device.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


class AbstractDraws(ABC):
    """A source of uniform numbers. Obligation: equal sources asked for equal shapes in turn give equal numbers."""

    @abstractmethod
    def rand(self, *shape: int) -> Float[Tensor, "..."]:
        """Float32 numbers in [0, 1) of the given shape."""

    def host(self, *shape: int) -> Float[Tensor, "..."]:
        """The same on the CPU, for choices that Python makes; a source on another device waits for it here."""
        return self.rand(*shape).cpu()


class GeneratorDraws(AbstractDraws):
    """Numbers from a generator.

    Args:
        generator: where the numbers come from, on its device; torch's global one where left out.
        device: of the numbers without a generator.
        on_host: where those of ``host`` come from, a generator on the CPU, so that no device is waited for; the same
            one where left out.

    Example:
        >>> first, again = (GeneratorDraws(torch.Generator().manual_seed(1)).rand(3) for _ in range(2))
        >>> torch.equal(first, again)
        True
    """

    def __init__(
        self,
        generator: torch.Generator | None = None,
        device: torch.device | None = None,
        on_host: torch.Generator | None = None,
    ) -> None:
        self.generator, self.on_host = generator, on_host
        self.device = device if generator is None else generator.device

    def rand(self, *shape: int) -> Float[Tensor, "..."]:
        """The next numbers of the generator."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def host(self, *shape: int) -> Float[Tensor, "..."]:
        """The next numbers of the generator for the CPU."""
        return self.rand(*shape).cpu() if self.on_host is None else torch.rand(shape, generator=self.on_host)


class RecordedDraws(AbstractDraws):
    """Numbers drawn beforehand, handed out in order.

    Args:
        numbers: one tensor for each request to come; inside ``torch.func.vmap`` they may be batched.

    Raises:
        ValueError: from ``rand``, when the next tensor has another shape or there is none.
    """

    def __init__(self, numbers: Sequence[Tensor]) -> None:
        self._numbers = iter(numbers)

    def rand(self, *shape: int) -> Float[Tensor, "..."]:
        """The next recorded tensor."""
        found = next(self._numbers, None)
        if found is None or tuple(found.shape) != shape:
            got = "none left" if found is None else f"shape {tuple(found.shape)}"
            raise ValueError(f"a loss asked for random numbers of shape {shape}, got {got}; record the same step again")
        return found


class RecordingDraws(AbstractDraws):
    """Passes requests on and keeps what was handed out.

    Args:
        source: where the numbers come from.

    Attributes:
        numbers: every tensor given so far; their shapes are what one step asks for.

    Example:
        >>> recording = RecordingDraws(GeneratorDraws())
        >>> torch.equal(recording.rand(2, 3), RecordedDraws(recording.numbers).rand(2, 3))
        True
    """

    def __init__(self, source: AbstractDraws) -> None:
        self.source = source
        self.numbers: list[Tensor] = []

    def rand(self, *shape: int) -> Float[Tensor, "..."]:
        """The source's next numbers."""
        self.numbers.append(self.source.rand(*shape))
        return self.numbers[-1]

    def host(self, *shape: int) -> Float[Tensor, "..."]:
        """The source's next numbers, on the CPU."""
        self.numbers.append(self.source.host(*shape))
        return self.numbers[-1]
