"""Runs on other clusters, reached with the user's own OpenSSH and rsync. Nothing runs here between two commands."""
