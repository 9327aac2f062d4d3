"""Experiment: its settings, arms, variants, jobs and files."""
