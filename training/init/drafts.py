"""Where drafts come from: ridge regression of the codes of pictures on their attributes, in closed form."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genfast.attributes import AttributeTable
from genfast.models.drafts import Drafts
from training.drafts import FOLDS, FoldedDrafts, folds
from training.nets.vqgan import region_map

RIDGE = 0.7  # times the identity, features being about 1 in size
SAMPLE = 200_000  # codes that principal components are of
TINY = 1e-5  # a component of less variance, against the largest, is none


def principal_components(codes: Tensor, channels: int) -> Tensor:
    """Components (C, K) of codes (M, C), the lesser ones being enlarged, and what the mean has of each: (C + 1, K)."""
    mean = codes.mean(0)
    _, singular, vectors = torch.linalg.svd(codes - mean, full_matrices=False)
    spread = singular[:channels] / len(codes) ** 0.5  # standard deviations
    components = vectors[:channels].T / (spread * spread.mean()).sqrt()
    return torch.cat([components, (mean @ components)[None]])


@torch.no_grad()
def fit(
    table: AttributeTable, tokens: Tensor, codebook: Tensor, rank: int, channels: int, components: Tensor | None = None
) -> FoldedDrafts:
    """Fit drafts of `channels` numbers a token to the tokens (M, N) of the table's pictures.

    Codes are those of a codebook (R * R, V, C), at unit mean square. `components` (C + 1, channels) say what the
    numbers are, where a network has learned to read them.
    """
    side, regions = round(tokens.shape[1] ** 0.5), round(len(codebook) ** 0.5)
    numbered = tokens + codebook.shape[1] * region_map(side, side, regions).flatten()
    codes = codebook.flatten(0, 1) / codebook.square().mean().sqrt()
    if components is None:
        some = numbered.flatten()[:: max(1, numbered.numel() // SAMPLE)]
        components = principal_components(codes[some], channels)
    reduced = codes @ components[:-1] - components[-1]  # (R * R * V, K)
    labels = range(int(table.labels.max()) + 1)
    features = [torch.from_numpy(table.features(label, table.rows[table.labels == label])) for label in labels]
    widest = max(each.shape[1] for each in features)
    mean = torch.zeros(len(labels), tokens.shape[1] * channels)
    projection = torch.zeros(FOLDS + 1, len(labels), widest, rank)
    basis = torch.zeros(len(labels), rank, mean.shape[1])
    for label, known in zip(labels, features, strict=True):
        mine = np.flatnonzero(table.labels == label)
        wanted = F.embedding(numbered[mine], reduced).flatten(1)  # (m, N * D)
        mean[label] = wanted.mean(0)
        wanted -= mean[label]
        kernel = known @ known.T  # (m, m)
        smooth = kernel @ torch.linalg.inv(kernel + RIDGE * torch.eye(len(kernel)))  # what is drafted of what is seen
        values, vectors = torch.linalg.eigh(smooth @ (wanted @ wanted.T) @ smooth.T)
        kept = min(rank, int((values > TINY * values[-1]).sum()))
        values, vectors = values[-kept:], vectors[:, -kept:]
        basis[label, :kept] = (vectors.T @ smooth @ wanted) / values.sqrt()[:, None]  # orthonormal
        coefficients = wanted @ basis[label].T  # (m, r)
        fold = folds(table.rows[mine])
        for k in range(FOLDS + 1):
            rest = fold != k
            gram = kernel[rest][:, rest] + RIDGE * torch.eye(int(rest.sum()))
            solved = torch.linalg.solve(gram, coefficients[rest])
            projection[k, label, : known.shape[1]] = known[rest].T @ solved
    places = tokens.shape[1], channels
    whole = Drafts(
        table,
        mean.unflatten(1, places).numpy(),
        projection[FOLDS].numpy(),
        basis.unflatten(2, places).numpy(),
    )
    return FoldedDrafts(whole, projection[:FOLDS].numpy(), components.numpy())
