"""Many runs: the code snapshot, packing, submission, the worker on the other side, and what became of them."""
