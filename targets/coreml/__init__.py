"""Core ML: on a phone, on a Mac, and by our own evaluator."""
