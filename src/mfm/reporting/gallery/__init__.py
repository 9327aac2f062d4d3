"""Gallery of evaluated images: what only one of two arms gets right, and what each confuses."""
