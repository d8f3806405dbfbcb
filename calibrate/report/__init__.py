"""What calibration tells people: pages, drawings, records."""
