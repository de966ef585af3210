"""Data sets, each a module with `load`."""
