"""Starting processes: their environment, PYTHONPATH, exit statuses and ids."""
