"""What makes evidence, figures and studies: run from a checkout, never part of the package."""
