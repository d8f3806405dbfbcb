"""Captions what a camera sees, or a video file, a folder that is being filled, a stream of paths."""
