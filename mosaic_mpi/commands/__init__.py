"""The commands, a module each: `add` declares its options, and what it ends with is the exit code.

No module here imports anything heavy at its top, so that `--help` answers at once on a login node.
"""
