"""Figures of quality: features of images, the distances between them (FID, KID), precision and recall."""
