"""How the stickers, the bundled captioner and its figures are made: `python -m tools.stickers.…`."""
