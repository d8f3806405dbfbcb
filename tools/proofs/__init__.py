"""The long proofs: a file a topic, a function a job of `tools/evidence.py`."""
