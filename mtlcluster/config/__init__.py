"""Reads, checks and expands a user's files: run, grid and cluster files. Never imports torch or a job file."""
