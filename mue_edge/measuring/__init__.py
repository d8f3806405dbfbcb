"""Times: of segments, of captions, of systems beside each other."""
