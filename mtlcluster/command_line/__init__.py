"""Shared by the commands of cli.py: options, exit codes, questions and printing. Nothing here is slow to import."""
