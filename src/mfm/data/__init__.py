"""Datasets: sources, manifest, selection of images, loading."""
