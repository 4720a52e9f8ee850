"""Copies from the CPU that no computation waits for."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; on CUDA it goes through pinned memory, and the CPU does not wait for the copy.

    Args:
        tensor: on the CPU; on the device already, it is returned as it is.
        device: where to.

    Example:
        >>> sent(torch.arange(3), torch.device("cpu"))
        tensor([0, 1, 2])
    """
    if tensor.device.type != "cpu" or device.type == "cpu":
        return tensor.to(device)
    return (tensor.contiguous().pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
