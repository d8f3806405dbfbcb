"""Captions and answers from the network, a word at a time."""
