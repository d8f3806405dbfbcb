"""Which policies are tried, how they are judged, and which is chosen."""
