"""`python -m mue_edge` is the same program as `mue-edge`."""

from mue_edge.cli import main

main()
