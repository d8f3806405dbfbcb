"""Applications on top of mue-edge."""
