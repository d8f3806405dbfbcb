"""Segments as an ExecuTorch program."""
