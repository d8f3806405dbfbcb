"""What can be claimed of held-out data, and with which confidence."""
