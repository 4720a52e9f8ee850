"""Heads: features to logits, one file a method; importing a file registers it."""
