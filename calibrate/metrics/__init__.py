"""What a caption is worth: scores, and their spread over clusters of pictures."""
