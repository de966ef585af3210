"""Turns checkpoints into bundles and proves that the graphs compute what the networks compute."""
