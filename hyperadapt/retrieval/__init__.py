"""Retrieval between images and captions: recall in both directions, and the methods that are trained on pairs."""
