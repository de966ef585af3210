"""Repainting what a mask marks, and not a bit of the rest."""
