"""OFA checkpoints, as people have them, to a model folder's content."""
