"""How fast a model draws, and what it takes."""
