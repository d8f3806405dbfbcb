"""Rivals write what the network writes, and a broken one leaves nothing behind."""
