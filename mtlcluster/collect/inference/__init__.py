"""The statistics of a comparison of methods: pure functions over arrays. `compare` holds the rules that join them.

Everywhere `z` is an array [M, S] without NaN: one row a method, one column a seed that all methods have; larger is
better. A seed gives the same initial weights and the same order of samples to every method. So a part of the variance
over seeds is common to all methods, and every test here is paired by seed.
"""
