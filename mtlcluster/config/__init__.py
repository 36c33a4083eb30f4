"""What a user writes (run, grid and cluster files): reading, checking, expanding. Never imports torch or a job file."""
