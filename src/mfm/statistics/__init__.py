"""Statistics: over seeds, over images, power, variance."""
