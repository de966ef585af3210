"""Recipes in, checkpoints out: `python -m training run training/recipes/NAME.toml`."""
