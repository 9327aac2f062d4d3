"""Numerics: random draws, number formats, convolutions, constants."""
