"""Other projects' weights as bundles: `python -m export import`."""
