"""Settings: what a section is, and what is said of a wrong one."""
