"""Processes: launcher, ranks, locks, pools."""
