"""Which plan (image size, precision, boundaries) a budget allows."""
