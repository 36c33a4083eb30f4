"""Data that jobs may use: tensors, padded sequences, and features of many clips packed into one file."""
