"""What the tokens of a picture have in common, wherever they lie, as a few numbers: the image embedding.

The colours of skin, hair and background, for one. Tokens that are drawn at once do not know of each other; the
embedding tells all what they are to agree on.
"""

from torch import Tensor, nn

from training.nets.token_head import perceptron

WIDTH = 128  # of what is averaged over all tokens


class ImageEmbedder(nn.Module):
    """Codes (B, N, D), known (B, N) in part, to the embedding (B, K) of the image, in -1 .. 1, and logits of its label.

    The logits are (B, L). It is a function of the set of those codes that are known (as Zaheer et al. 2017, Deep Sets).
    """

    def __init__(self, codes: int, image_embedding: int, labels: int) -> None:
        super().__init__()
        self.sizes = [image_embedding, labels]
        self.each = nn.Sequential(nn.Linear(codes, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.all = perceptron(WIDTH, image_embedding + labels)

    def forward(self, codes: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        known = known[..., None].to(codes.dtype)  # (B, N, 1)
        mean = (self.each(codes) * known).sum(1) / known.sum(1).clamp(min=1)  # (B, WIDTH)
        embedding, labels = self.all(mean).split(self.sizes, dim=1)
        return embedding.tanh(), labels
