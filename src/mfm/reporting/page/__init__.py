"""report.html: everything about a finished experiment in one file."""
