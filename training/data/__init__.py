"""Data sets, read only."""
