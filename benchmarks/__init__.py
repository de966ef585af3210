"""What the tables of README and docs come from, each run by hand: python -m benchmarks.NAME --help.

quality   faces, inpainting, blocks
speed     sampling, megapixel, overhead
pictures  fingerprints, which two commits are compared by; overview, README's picture; examples, holes
"""
