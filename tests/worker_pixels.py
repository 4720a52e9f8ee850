"""Preprocessings that a worker process can import quickly."""

import os

import numpy as np
import torch


def plain_pixels(image):
    return torch.from_numpy(np.asarray(image.resize((32, 32)), dtype=np.float32) / 255).permute(2, 0, 1)


def plain_pixels_and_pid(image):
    """A fourth channel tells where it was done."""
    return torch.cat([plain_pixels(image), torch.full((1, 32, 32), float(os.getpid()))])


def pid_pixels(image):
    return torch.full((3, 4, 4), float(os.getpid()))
