"""What the tables of README and docs come from, each run by hand: python -m benchmarks.NAME --help.

quality   faces, attributes, blocks, inpainting, familiar, garments, vqgan, imported
speed     sampling, megapixel, overhead, scale, page
pictures  fingerprints, which two commits are compared by; overview and screenshot, README's pictures; examples, holes
"""
