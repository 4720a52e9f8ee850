"""Preprocessings that a worker process can import quickly."""

import os

import numpy as np
import torch


def plain_pixels(image):
    return torch.from_numpy(np.asarray(image.resize((32, 32)), dtype=np.float32) / 255).permute(2, 0, 1)


def pid_pixels(image):
    return torch.full((3, 4, 4), float(os.getpid()))
