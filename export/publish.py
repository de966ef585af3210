"""A mirror: bundles and their index, as files for any web server or object store (see genfast/bundles/mirror.py)."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from export.card import MARK, card
from export.folder import new
from genfast.bundles import bundle
from genfast.bundles.mirror import INDEX, Index, Published
from genfast.errors import UsageError
from genfast.files import atomic

README = "README.md"


def publish(out: Path, folders: Iterable[Path]) -> Index:
    """Add bundles to the mirror in the folder `out`, which need not exist; the index names them last.

    README.md describes all of it, unless somebody wrote another. Raises UsageError where there already is another
    bundle of a name: what users have pulled would differ from it. Raises ModelError where a bundle is corrupt, one that
    is published included.
    """
    path = out / INDEX
    known = bundle.parse(Index, path.read_bytes(), f"{path} is not an index").bundles if path.exists() else {}
    for folder in folders:
        source = bundle.load(folder)
        name = source.manifest.name
        if not (out / name).exists():
            with new(out / name) as partial:
                for file in (bundle.MANIFEST, *(file.path for file in source.manifest.files)):
                    (partial / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(folder / file, partial / file)
        published = bundle.load(out / name)
        if published.sha256 != source.sha256:
            raise UsageError(f"{out / name} is another bundle; give {folder} another name, or remove that one")
        known[name] = Published(manifest_sha256=published.sha256, size=published.size)
    index = Index(format=1, bundles=dict(sorted(known.items())))
    readme = out / README
    if not readme.exists() or MARK in readme.read_text("utf-8"):
        with atomic(readme) as stream:
            stream.write(card([bundle.read(out / name) for name in index.bundles]).encode())
    with atomic(path) as stream:
        stream.write(index.model_dump_json(indent=2).encode() + b"\n")
    return index
