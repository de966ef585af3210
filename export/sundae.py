"""A prior and its VQ-GAN as one bundle: pictures to tokens and back, what tokens should be, and their draw."""

import copy
from pathlib import Path

import torch

from export import prior_vqgan
from export.draft_likelihood import export_draft_likelihood
from export.drafts import FILES, rounded, store
from export.folder import new
from export.precision import choose, graph
from export.prior import HIDDEN, Coded, export_draft, export_draw, export_predict, freeze
from export.provenance import report, trained
from export.vqgan import ROLES
from export.weights import share_weights
from genfast.bundles import bundle
from genfast.bundles.manifest import Figure
from genfast.errors import UsageError
from training.checkpoint import load_average
from training.drafts import FoldedDrafts
from training.families.sundae import SundaeRecipe
from training.nets.hourglass import Hourglass

PARITY = {
    "encode": "largest share of tokens that differ from PyTorch, batches of 1, 2, 7",
    "decode": "largest difference from PyTorch in levels of 255, batches of 1, 2, 7",
    "pixel_likelihood": "largest difference from PyTorch, as a share of the largest value, batches of 1, 2, 7",
    "draft": "largest difference from PyTorch, batches of 1, 2, 7",
    "draft_likelihood": "largest difference from PyTorch, as a share of the largest value, batches of 1, 2, 7",
    "draw": "largest difference of a probability from PyTorch, batches of 1, 2, 7",
}


@torch.no_grad()
def sundae(checkpoint: Path, out: Path, vqgan: Path, notes: str = "") -> None:
    """Write a prior's averaged weights, and those of its VQ-GAN, to the new folder `out` as a bundle.

    `notes` on the training go into its manifest; how users draw and fill by default is what its recipe says.

    Raises:
        UsageError: a checkpoint is none of its family, the prior is not one of this VQ-GAN, or what attributes
            say of its tokens is missing, or `out` exists.
        ValueError: a graph does not compute what the network computes.
    """
    recipe, provenance = trained(checkpoint, SundaeRecipe)
    codec = prior_vqgan.load(vqgan)
    network = load_average(checkpoint, Hourglass(recipe.hourglass)).eval()
    if not fits(network, codec):
        raise UsageError(f"{checkpoint} is not a prior for the tokens of {vqgan}: its codes are others")
    folder_of_tokens = recipe.data.folder
    folded = FoldedDrafts.load(folder_of_tokens) if recipe.hourglass.draft and folder_of_tokens else None
    if recipe.hourglass.draft and folded is None:
        raise UsageError(
            f"{folder_of_tokens} has no drafts, which {checkpoint} reads; python -m training drafts fits them"
        )
    side, vocabulary = recipe.hourglass.tokens, recipe.hourglass.vocabulary
    size, (dataset, licence, classes) = codec.side(side), codec.about(recipe.data)
    if recipe.hourglass.classes != len(classes):
        raise UsageError(f"{checkpoint} has {recipe.hourglass.classes} classes, and its data {len(classes)}")
    with new(out) as folder:
        codes, differences = codec.write(side, folder)
        frozen = freeze(network, codec)
        differences["draw"] = export_draw(frozen, folder)
        predicted = export_predict(frozen, codes, folder)
        if folded:
            differences["draft"] = export_draft(frozen, codes, folder)
            if recipe.draft_weight:
                likelihood = export_draft_likelihood(frozen, recipe.draft_weight, codes, folder)
                differences["draft_likelihood"] = likelihood
        drafts, arrays = rounded(folded) if folded else (None, {})
        store(arrays, folder)
        graphs, figures = choose(network, frozen, drafts, recipe.sampling, folder)
        roles = [role for role in (*ROLES, "draft", "draft_likelihood") if (folder / f"{role}.onnx").exists()]
        others = [folder / graph.path for role in ("predict", "draw") for graph in graphs[role]]
        others.sort(reverse=True)  # those in float32 give files of weights their names
        share_weights([*(folder / f"{role}.onnx" for role in roles), *others])
        manifest = bundle.write(
            folder,
            name=recipe.name.removesuffix("-prior"),
            family="vq-sundae",
            summary=f"{dataset}, {size}x{size}, from {side}x{side} tokens of {vocabulary}",
            licence=codec.licence,
            image={"height": size, "width": size, "channels": 3},
            tokens={"height": side, "width": side, "vocabulary": vocabulary},
            classes=classes,
            graphs={role: [graph(role, "fp32", "cpu", "cuda")] for role in roles} | graphs,
            attributes=drafts.table.attributes if drafts else (),
            arrays={name: FILES[name] for name in arrays},
            sampling={"batch": 1, "options": recipe.sampling, "inpainting": recipe.inpainting},
            parity={"tolerance": HIDDEN, "max_abs_difference": predicted},
            figures=[
                *(
                    Figure(name=f"parity, {role}", value=max(found.values()), protocol=PARITY[role])
                    for role, found in differences.items()
                ),
                *figures,
            ],
            provenance={
                **provenance,
                "codec": codec.recipe,
                "dataset": dataset,
                "dataset_licence": licence,
                "notes": f"{codec.notes} The weights are exponential moving averages. {notes}".strip(),
            },
        ).manifest
    report(out, manifest)


def fits(network: Hourglass, codec: Coded) -> bool:
    """Whether a prior knows tokens by the codes of this VQ-GAN."""
    if network.token_head.codes.shape != codec.codebook.shape:
        return False
    own = copy.deepcopy(network)
    own.token_head.set_codes(codec.codebook)
    return torch.allclose(own.token_head.codes, network.token_head.codes, rtol=1e-3, atol=1e-3)
