"""Adapters: features to features, one file a method; importing a file registers it."""
