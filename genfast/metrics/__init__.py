"""Figures of quality: features of images, the Fréchet distance (FID) and the kernel distance (KID) between them."""
