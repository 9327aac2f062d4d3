"""Linking of a dataset: scan, manifest, division into splits, selection."""
