"""What pages say of the evidence: a file a topic, a function a block of `tools/readme.py`."""
