"""`python -m mue_edge` is the same program as `mue-edge`."""

from mue_edge.apps.cli.main import main

main()
