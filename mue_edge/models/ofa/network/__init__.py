"""The network in PyTorch: layers, encoder and decoder with exits."""
