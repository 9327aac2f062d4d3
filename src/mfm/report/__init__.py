"""What is rendered from finished results. Nothing here changes a measured number."""
