"""The image embedding is a function of a set of codes."""

import torch

from training.nets.set_encoder import ImageEmbedder


def test_an_embedding_depends_on_the_set_of_known_codes() -> None:
    """Not on the others, nor on where they lie; each of its numbers lies in -1 .. 1."""
    embedder, codes = ImageEmbedder(codes=10, image_embedding=5, labels=4), torch.randn(3, 64, 10)
    known = torch.rand(3, 64) < 0.5
    embedding, labels = embedder(codes, known)
    assert embedding.shape == (3, 5) and labels.shape == (3, 4) and embedding.abs().max() < 1
    others = torch.where(known[..., None], codes, torch.randn_like(codes))
    torch.testing.assert_close(embedder(others, known), (embedding, labels))
    order = torch.randperm(64)
    torch.testing.assert_close(embedder(codes[:, order], known[:, order]), (embedding, labels))
    assert (embedder(codes, ~known)[0] != embedding).any(1).all()
    assert all(x.isfinite().all() for x in embedder(codes, torch.zeros_like(known)))
