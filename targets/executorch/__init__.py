"""ExecuTorch: its Python runtime, and Android's Java library."""
