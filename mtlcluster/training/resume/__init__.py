"""Exact resume: checkpoints, and the state that a model does not keep in its state_dict."""
