"""Restoration of images: super-resolution, deblurring, denoising, and nothing to restore."""

from mfm.objectives.restoration.settings import (
    Autoencoding,
    Deblurring,
    Denoising,
    SuperResolution,
)

Settings = SuperResolution | Deblurring | Denoising | Autoencoding

__all__ = ["Settings"]
