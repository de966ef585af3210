"""Recipes: those of the project are valid, and what is none is refused with a reason."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import training
from training import registry
from training.families.sundae import SundaeRecipe
from training.registry import FAMILIES

RECIPES = (Path(training.__file__).parent / "recipes").glob("*.toml")
PROJECT = sorted(path for path in RECIPES if path.stem != "study")  # tested in study/test_queue.py


@pytest.mark.parametrize("path", PROJECT, ids=lambda path: path.stem)
def test_recipes_of_the_project_are_valid(path: Path) -> None:
    recipe = registry.read(path)
    assert recipe.name == path.stem and recipe.loop.steps >= recipe.loop.decay
    for section in ("unet", "schedule"):  # beyond types: networks and levels can be made of it
        config = getattr(recipe, section, None)
        if section == "schedule" and config:
            counts = [config.steps] if isinstance(config.steps, int) else [*config.steps]
            assert [*config.build().paths] == ([*config.log_snr] or counts)
        elif config:
            assert all(width % config.groups == 0 for width in config.widths)
    runs = [run for run in (getattr(recipe, name, None) for name in ("init_from", "teacher", "frozen_from")) if run]
    assert {run.name for run in runs} <= {path.stem for path in PROJECT}
    if isinstance(recipe, SundaeRecipe) and recipe.vqgan:
        tokens = registry.read(path.with_name(f"{recipe.vqgan.name}.toml"))
        assert (recipe.hourglass.codes, recipe.hourglass.regions) == (tokens.vqgan.latent, tokens.vqgan.regions)
        assert recipe.hourglass.vocabulary == tokens.vqgan.codes


@pytest.mark.parametrize("path", PROJECT, ids=lambda path: path.stem)
def test_a_checkpoint_gives_its_recipe_back(path: Path) -> None:
    recipe = registry.read(path)
    written = json.dumps(dataclasses.asdict(recipe), default=str)
    assert registry.validate(json.loads(written)) == recipe


@pytest.mark.parametrize("family", FAMILIES)
def test_recipes_are_frozen(recipe: Callable[..., Any], family: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe(family).name = "other"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"family": "gan"},
            "family must be one of classifier, ddpm, ddgan, dmd, dequantiser, vqgan, sundae, not 'gan'",
        ),
        ({"family": None}, "family must be one of .* not None"),
        ({"learning_rate": 1e-3}, "learning_rate: .*[Uu]nexpected"),
        ({"loop": {"steps": 1, "epochs": 3}}, "loop: epochs: .*[Uu]nexpected"),
        ({"unet": {"latent": 8, "depth": 3}}, "unet: depth: .*[Uu]nexpected"),
        ({"loop": {}}, r"loop: steps: .*(required|missing)"),
        ({"loop": {"steps": "many"}}, "loop: steps: .*valid integer"),
        ({"loop": {"steps": 1.5}}, "loop: steps: .*valid integer"),
        ({"unet": {"widths": "wide"}}, "unet: widths: .*valid tuple"),
        ({"unet": 5}, "unet: "),
        ({"loss": "hinge"}, "loss: .*'non-saturating', .* or 'relativistic'"),
        ({"gamma": "one"}, "gamma: .*valid number"),
    ],
)
def test_what_is_no_recipe_is_refused(
    table: Callable[..., dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        registry.validate(table("ddgan") | change)


def test_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('name = "x"\nfamily = "classifier"\n[loop]\nsteps = 7\n')
    assert registry.read(path).loop.steps == 7
    for text in "name = ", "family = ['ddpm']", 'family = "ddpm"':
        path.write_text(text)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*$"):  # one line: what, and where
            registry.read(path)
    with pytest.raises(FileNotFoundError):
        registry.read(tmp_path / "none.toml")


def test_a_ddpm_has_no_latent(table: Callable[..., dict[str, Any]]) -> None:
    plain = table("ddpm")
    with pytest.raises(ValueError, match="a DDPM has no latent"):
        registry.validate(plain | {"unet": plain["unet"] | {"latent": 10}})
