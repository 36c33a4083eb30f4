"""Features of many clips, such as video or audio segments: packed into one file, and read from it fast."""
