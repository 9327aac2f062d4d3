"""Frozen features: what can be read from pixels, random weights and each arm's initial weights."""
