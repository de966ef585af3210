from pathlib import Path

import pytest

from genfast import bundle, catalog
from genfast.errors import ModelError, UsageError


def test_the_default_variant_is_one_that_exists() -> None:
    for entry in catalog.entries().values():
        assert entry.variant() in entry.variants


def test_what_ships_is_what_the_catalogue_says() -> None:
    shipped = Path(__file__).parents[2] / "assets" / "bundles"
    known = {variant.bundle: (entry, variant) for entry in catalog.entries().values() for variant in entry.variants}
    for folder in shipped.iterdir():
        entry, variant = known[folder.name]
        manifest = bundle.load(folder).manifest
        assert manifest.name == folder.name
        assert (manifest.family, manifest.licence, manifest.steps) == (entry.family, entry.licence, variant.steps)


def test_steps_pick_the_weights() -> None:
    assert catalog.entry("fashion28").variant(4).bundle == "fashion28-t4"


def test_steps_without_weights_name_those_that_have() -> None:
    with pytest.raises(UsageError, match="^fashion28 has no weights for 3 steps; weights exist for: 4$"):
        catalog.entry("fashion28").variant(3)


def test_an_extractor_takes_no_steps() -> None:
    with pytest.raises(UsageError, match="fashion takes no number of steps"):
        catalog.entry("fashion").variant(4)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="unknown model 'dalle'.*fashion28, efficientnet-lite0, fashion"):
        catalog.entry("dalle")
