"""Methods make one update of several losses. They have three slots: a schedule, a weighting and a gradient method.

Each method is one file. Its folder is its slot; its file name is its name in a configuration. `base` is the interface.
`catalog` reads the files without importing them, and so without torch.
"""
