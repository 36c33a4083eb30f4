"""What the verbs of cli.py share: options, exit codes, questions and printing. Nothing here is slow to import."""
