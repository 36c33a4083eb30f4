"""The verdict: which method is better, by how much, and whether that can be believed."""
