"""Bundles: what they hold, which there are, where they lie and where they are fetched from."""
