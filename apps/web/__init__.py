"""Captioning in a browser: the page, its site writer, and the Python that runs inside of it (`session`)."""
