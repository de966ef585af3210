"""Loaded models: one class a family, one face."""
