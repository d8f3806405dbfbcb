"""Rivals that do not work, each in its way."""
