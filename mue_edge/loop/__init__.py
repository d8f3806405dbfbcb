"""The loop: what runs next, and when a stack is exited. Standard library only."""
