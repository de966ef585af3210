"""The study of losses and numbers of steps."""
