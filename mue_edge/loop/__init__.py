"""The loop: what runs next, and when a stack is left. Standard library only."""
