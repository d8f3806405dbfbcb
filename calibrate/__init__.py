"""Quality, traces, search, certificates and training."""
