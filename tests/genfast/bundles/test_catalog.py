from pathlib import Path

import pytest

from genfast.bundles import bundle, catalog
from genfast.errors import ModelError, UsageError


def test_the_default_variant_is_one_that_exists() -> None:
    for entry in catalog.entries().values():
        assert entry.variant() in entry.variants


def test_what_ships_is_what_the_catalogue_says() -> None:
    shipped = Path(__file__).parents[3] / "assets" / "bundles"
    known: dict[str, tuple[catalog.Entry, list[catalog.Variant]]] = {}
    for entry in catalog.entries().values():
        for variant in entry.variants:
            known.setdefault(variant.bundle, (entry, []))[1].append(variant)
    for folder in shipped.iterdir():
        entry, variants = known[folder.name]
        manifest = bundle.load(folder).manifest
        assert manifest.name == folder.name
        assert (manifest.family, manifest.licence) == (entry.family, entry.licence)
        if manifest.family == "ddgan":
            trained = [(timesteps.steps, timesteps.loss) for timesteps in manifest.schedule.trained]
            assert sorted(trained, key=str) == sorted(((v.steps, v.loss) for v in variants), key=str)
        else:
            assert all(variant.steps is variant.loss is None for variant in variants)


def test_steps_pick_the_weights() -> None:
    for steps in range(1, 9):
        assert catalog.entry("fashion28").variant(steps) == catalog.Variant("fashion28", steps)
    assert catalog.entry("fashion28").variant(8, "hellinger") == catalog.Variant("fashion28-study", 8, "hellinger")


def test_steps_without_weights_name_those_that_have() -> None:
    with pytest.raises(UsageError, match=r"^fashion28 has no weights for 9 steps; weights exist for: 1, 2, [\d, ]*8$"):
        catalog.entry("fashion28").variant(9)


SWEPT = catalog.Entry(
    name="swept",
    family="ddgan",
    summary="",
    licence="",
    default_steps=4,
    variants=(
        catalog.Variant("best", 4, "relativistic"),
        *(catalog.Variant(f"{loss}-{steps}", steps, loss) for loss in ("pearson", "hellinger") for steps in (8, 4, 2)),
    ),
)


def test_a_loss_picks_the_weights() -> None:
    assert SWEPT.variant().bundle == SWEPT.variant(4).bundle == SWEPT.variant(loss="relativistic").bundle == "best"
    assert SWEPT.variant(loss="hellinger").bundle == "hellinger-4"
    assert SWEPT.variant(2, "hellinger").bundle == "hellinger-2"
    assert SWEPT.variant(2).bundle == "pearson-2"  # the first that is listed


@pytest.mark.parametrize(
    ("steps", "loss", "message"),
    [
        (3, None, "swept has no weights for 3 steps; weights exist for: 2, 4, 8"),
        (
            2,
            "relativistic",
            "swept has no weights for 2 steps by relativistic; weights exist for: "
            "relativistic at 4; pearson at 2, 4, 8; hellinger at 2, 4, 8",
        ),
        (None, "hinge", "swept has no weights for 4 steps by hinge; weights exist for: .*hellinger at 2, 4, 8"),
    ],
)
def test_a_pair_without_weights_names_those_that_have(steps: int | None, loss: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}$"):
        SWEPT.variant(steps, loss)


def test_some_models_take_no_loss() -> None:
    for name in "fashion28-ddpm", "avatars1024", "fashion":
        with pytest.raises(UsageError, match=f"^{name} takes no loss$"):
            catalog.entry(name).variant(None, "hellinger")


def test_a_ddpm_takes_any_number_of_steps() -> None:
    ddpm = catalog.entry("fashion28-ddpm")
    assert ddpm.variant(100) == ddpm.variant() == catalog.Variant("fashion28-ddpm")


def test_a_model_of_tokens_takes_any_number_of_steps() -> None:
    for name in "avatars1024", "ffhq1024":
        assert catalog.entry(name).variant(16) == catalog.entry(name).variant() == catalog.Variant(name)


def test_who_stands_in_is_known_and_of_the_same_family() -> None:
    standing = {entry: catalog.entry(entry.stand_in) for entry in catalog.entries().values() if entry.stand_in}
    assert {entry.name: other.name for entry, other in standing.items()} == {"ffhq1024": "avatars1024"}
    assert all(entry.family == other.family and other.stand_in is None for entry, other in standing.items())


def test_an_extractor_takes_no_steps() -> None:
    with pytest.raises(UsageError, match="fashion takes no number of steps"):
        catalog.entry("fashion").variant(4)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="unknown model 'dalle'.*fashion28, .*efficientnet-lite0, fashion"):
        catalog.entry("dalle")


@pytest.mark.parametrize(
    ("steps", "said"),
    [([], ""), ([4], "4"), ([1, 2], "1,2"), ([1, 2, 3], "1 to 3"), ([1, 2, 4], "1,2,4"), ([2, 3, 4, 5], "2 to 5")],
)
def test_numbers_are_a_range_where_none_is_missing(steps: list[int], said: str) -> None:
    assert catalog.span(steps) == said
