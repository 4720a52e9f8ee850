"""The largest tensor that a computation makes, watched through the dispatcher."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Largest(TorchDispatchMode):
    """Sees every tensor that is made inside; `size` is that of the largest so far, in bytes."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in result if isinstance(result, tuple | list) else (result,):
            if isinstance(t, torch.Tensor):
                self.size = max(self.size, t.numel() * t.element_size())
        return result
