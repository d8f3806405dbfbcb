"""The commands of `mue-edge`, a file each; the folder that it stands in is its group in the help."""
