"""Pictures with captions or statements, from tables and folders."""
