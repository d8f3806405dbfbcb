"""The cut of the network into segments for devices."""
