"""Commands that make a model folder, or a bundle."""
