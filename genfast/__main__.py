"""`python -m genfast` is `genfast`."""

from genfast.cli import main

main()
