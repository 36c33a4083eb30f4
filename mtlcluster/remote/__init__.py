"""Other clusters than this machine's, over the user's own OpenSSH and rsync. Nothing runs here between two commands."""
