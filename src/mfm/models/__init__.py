"""Models: backbones, heads, weights in and out."""
