"""What can run jobs: Slurm and this machine. Each implements the interface in base.py."""
