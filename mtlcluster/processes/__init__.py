"""How processes of mtlcluster are started: their environment and PYTHONPATH."""
