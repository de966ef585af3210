"""How images are drawn: the papers' loops over a network that is given as a function."""
