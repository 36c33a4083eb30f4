"""How several losses become one update, in three slots: a schedule, a weighting and a gradient method, freely combined.

One method, one file: its folder is its slot, its file name its name in a configuration. `catalog` reads those files
without importing them (and so without torch); `base` is the interface they fill.
"""
