"""Calls of the workflow, by those who have no checkout: from a terminal and from Python."""
