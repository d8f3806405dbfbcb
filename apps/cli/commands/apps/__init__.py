"""Commands that start applications."""
