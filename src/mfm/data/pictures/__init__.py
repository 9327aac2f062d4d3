"""Pictures: what a file holds, and what becomes of its values."""
