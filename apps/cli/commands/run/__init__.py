"""Commands that run a bundle."""
