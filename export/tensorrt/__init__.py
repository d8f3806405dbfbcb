"""Segments for TensorRT, and what its versions take."""
