"""Commands: arguments in, one call out."""
