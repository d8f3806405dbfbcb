"""A second family, small and unlike OFA: all that a family of captioners has to provide."""
