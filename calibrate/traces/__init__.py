"""What policies do to samples, found with few live runs."""
