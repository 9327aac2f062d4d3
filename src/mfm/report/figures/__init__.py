"""The figures of a finished experiment, as SVG for the report and PNG for anything else."""
