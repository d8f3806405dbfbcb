"""Segments as Core ML packages."""
