"""The page of `genfast ui`: the same code as the command line's, and so the same pictures."""
