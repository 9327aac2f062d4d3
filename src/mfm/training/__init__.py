"""Training: one run, its loop, its checkpoints."""
