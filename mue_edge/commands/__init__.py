"""The commands of `mue-edge`, one file each; cli.py imports only the one that runs."""
