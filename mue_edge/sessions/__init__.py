"""The Python API: what is done with an opened bundle."""
