"""export/unpack.py: a bundle gives back the networks that it was made of, and checkpoints that training starts from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export import unpack
from export.diffusion import ddgan, ddpm
from export.sundae import sundae
from export.weights import constants
from genfast.bundles import bundle
from genfast.errors import UsageError
from tests.export.tiny import PRIOR_TABLE, SIDE, VQGAN_TABLE
from training.nets.hourglass import Hourglass
from training.nets.vqgan import VQGAN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The recipes of the small networks are some of the project's."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for table in (PRIOR_TABLE | {"vqgan": "runs/tiny-tokens"}, VQGAN_TABLE):
        lines = [f"{key} = {_toml(value)}" for key, value in table.items()]
        (recipes / f"{table['name']}.toml").write_text("\n".join(lines))
    monkeypatch.setattr(unpack, "RECIPES", recipes)
    monkeypatch.setattr(unpack, "ROUNDS", 300)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.usefixtures("known")
def test_the_networks_are_those_of_the_bundle(exported: Path, networks: tuple[Hourglass, VQGAN]) -> None:
    prior, codec, *_ = unpack.networks(bundle.load(exported))
    z, label = torch.randint(prior.config.vocabulary, (3, SIDE**2)), torch.tensor([0, 4, 5])
    with torch.inference_mode():
        given = z, label, torch.randn(3, SIDE**2, prior.config.draft)
        exact, again = networks[0](*given).log_softmax(2), prior(*given).log_softmax(2)
        apart, others = ((exact.exp() * (exact - x)).sum(2).mean() for x in (again, again.roll(1, 0)))
        assert apart < others / 100  # keys were rounded to six bits
        grid = z.unflatten(1, (SIDE, SIDE))
        torch.testing.assert_close(codec.decode(grid), networks[1].decode(grid), atol=0.06, rtol=0)  # eight bits


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_checkpoints_can_be_exported_again(
    exported: Path, checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the bundle holds comes back but for the keys, which were learned anew."""
    monkeypatch.chdir(checkpoints[0].parent)  # where the token set of the recipe lies
    runs = tmp_path / "runs"
    unpack.checkpoints(exported, runs)
    sundae(runs / "tiny-prior/checkpoint-00000000", tmp_path / "again", runs / "tiny-vqgan/checkpoint-00000000")
    before, after = (
        {path.name: path.read_bytes() for path in folder.glob("*.bin")} for folder in (exported, tmp_path / "again")
    )
    names = [name for name in before if not name.startswith("draw")]
    assert len(names) >= 2
    for name in names:
        old, new = (np.frombuffer(files[name], np.uint8) for files in (before, after))
        # Sums may round otherwise from one time to the next: by one in the last place, where they do.
        assert len(new) == len(old) and (new != old).mean() < 1e-4 and np.isin(new - old, (0, 1, 255)).all()
    with pytest.raises(UsageError, match="exists"):
        unpack.checkpoints(exported, runs)


@pytest.mark.slow
@pytest.mark.usefixtures("known")
def test_keys_are_learned(exported: Path) -> None:
    prior, *_ = unpack.networks(bundle.load(exported))
    fresh, keys = Hourglass(prior.config).token_head, prior.token_head.keys()
    fresh.set_codes(prior.token_head.codes)
    assert unpack.learn_keys(fresh, keys) < 0.7 * unpack.learn_keys(fresh, torch.randn_like(keys))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion28", "fashion28-ddpm"])
def test_a_diffusion_model_can_be_exported_again(name: str, tmp_path: Path) -> None:
    """As it ships, but perhaps for the last bit of a float32."""
    shipped = ROOT / "assets" / "bundles" / name
    unpack.checkpoints(shipped, tmp_path / "runs")
    (checkpoint,) = (tmp_path / "runs" / name).iterdir()
    before = bundle.load(shipped).manifest.provenance
    if name == "fashion28":
        ddgan(checkpoint, tmp_path / "again", samples=0)
    else:
        ddpm(checkpoint, tmp_path / "again")
    after = bundle.load(tmp_path / "again").manifest.provenance
    assert (after.recipe, after.images_seen, after.hours) == (before.recipe, before.images_seen, before.hours)
    ours, theirs = (constants(folder / "step.onnx") for folder in (tmp_path / "again", shipped))
    assert ours.keys() <= theirs.keys()
    for name, values in ours.items():  # the schedule is computed anew, by a CPU that may be another
        torch.testing.assert_close(values, theirs[name], rtol=1e-6, atol=0)


def test_what_is_no_bundle_of_tokens_has_no_prior(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="is of family ddgan, not ddgan, ddpm or vq-sundae"):
        unpack.networks(bundle.load(tiny_bundle))


def test_what_has_no_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is of family features, not ddgan, ddpm or vq-sundae"):
        unpack.checkpoints(ROOT / "assets" / "bundles" / "fashion", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_recipe_of_others_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tiny-prior is no recipe"):
        unpack.checkpoints(exported, tmp_path / "runs")
