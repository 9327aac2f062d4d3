"""Reports: tables, pages and figures from finished results."""
