"""Segments as ONNX graphs."""
