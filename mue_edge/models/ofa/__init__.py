"""OFA with joint encoder, and MuE's decomposed form of it."""
