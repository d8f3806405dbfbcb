"""What the long proofs of `tools/proofs/` measure with."""
