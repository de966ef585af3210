"""The page of a mirror: README.md, as the Hugging Face hub reads it, of what the bundles are and how to run them."""

import json
from collections.abc import Sequence

from genfast.bundles.bundle import Bundle

MARK = "<!-- Written by `python -m export publish`, which keeps it up to date until this line is gone. -->"
LICENCES = {"Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"}  # the hub's
RUN = {
    "features": "genfast fid FOLDER_A FOLDER_B --features",
    "inpainter": "genfast inpaint PHOTO.jpg MASK.png --model",
    "vq": "genfast reconstruct PICTURE.png --model",
}
DRAW = "genfast sample --model"


def card(bundles: Sequence[Bundle]) -> str:
    """The text, in Markdown behind a block of YAML."""
    licences = sorted({bundle.manifest.licence for bundle in bundles})
    one = licences[0] if len(licences) == 1 else ""
    tags = ["onnx", "genfast", *sorted({bundle.manifest.family for bundle in bundles})]
    head = {
        "license": one.lower() if one in LICENCES else "other",
        **({} if one in LICENCES else {"license_name": ", ".join(licences) or "unknown"}),
        "library_name": "genfast",
        "tags": tags,
    }
    yaml = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items())  # JSON is YAML
    names = ", ".join(bundle.manifest.name for bundle in bundles)
    parts = [
        f"---\n{yaml}\n---\n{MARK}",
        f"# {names}",
        "Models for genfast, which draws, repaints and measures pictures in a "
        "handful of network calls, without PyTorch: folders of ONNX files, each with a manifest of their hashes, and "
        "no code.",
        "```sh\ngenfast pull hf://OWNER/REPO    # this repository; prints the folders to give as FOLDER below\n```",
        *map(_section, bundles),
    ]
    return "\n\n".join(parts) + "\n"


def _section(bundle: Bundle) -> str:
    manifest = bundle.manifest
    about = manifest.provenance
    facts = {
        "licence": manifest.licence,
        "family": manifest.family,
        "size": f"{bundle.size / 1e6:.1f} MB",
        "trained on": about.dataset and f"{about.dataset} ({about.dataset_licence or 'licence unknown'})",
        "weights from": about.source,
        "notes": about.notes,
        **{figure.name: f"{figure.value:.4g} (`{figure.protocol}`)" for figure in manifest.figures},
    }
    rows = "\n".join(f"- {name}: {' '.join(str(fact).split())}" for name, fact in facts.items() if fact)
    command = RUN.get(manifest.family, DRAW)
    return f"## {manifest.name}\n\n{manifest.summary}.\n\n```sh\n{command} FOLDER\n```\n\n{rows}"
