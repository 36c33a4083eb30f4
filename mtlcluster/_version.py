"""The version of mtlcluster, written once. Imports nothing, so that setup.cfg and every module may read it."""

__version__ = "0.1.0"
