"""One run: its problem, the loop, validation, checkpoints, and the history of it all."""
