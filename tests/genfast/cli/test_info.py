import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import genfast
from genfast.bundles import bundle, catalog, hub
from tests.genfast.cli.conftest import Run


def test_the_command_in_an_image_draws_it_again(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    cli("sample", "--model", tiny_bundle, "--seed", 7, "--start", 50, "-n", 4, "--out", tmp_path / "a", check=True)
    for name in "tiny-7-52.png", "tiny-7-grid-50-53.png":
        card = json.loads(cli("info", tmp_path / "a" / name, "--json").stdout)
        assert card["bundle"] == bundle.load(tiny_bundle).sha256
        command = [str(tiny_bundle) if word == "path/to/tiny" else word for word in shlex.split(card["command"])]
        assert command[0] == "genfast"
        cli(*command[1:], "--out", tmp_path / name, check=True)
        assert (tmp_path / name / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_the_command_in_an_image_of_tokens_draws_it_again(cli, token_bundle: Path, tmp_path: Path) -> None:
    options = "-n 3 --seed 7 --history --steps 5 --sampler sundae --redraw-ratio 0.3 --min-steps 0 --guidance 0".split()
    cli("sample", "--model", token_bundle, *options, "--out", tmp_path / "a", check=True)
    names = ["squares-7-1.png", "squares-7-1-history.png", "squares-7-1-strip.png", "squares-7-grid-0-2.png"]
    for name in names:
        card = json.loads(cli("info", tmp_path / "a" / name, "--json").stdout)
        assert card["options"].get("class") == (None if "grid" in name else "light blue")
        command = [str(token_bundle) if word == "path/to/squares" else word for word in shlex.split(card["command"])]
        cli(*command[1:], "--out", tmp_path / name, check=True)
        assert (tmp_path / name / name).read_bytes() == (tmp_path / "a" / name).read_bytes()


def test_what_drew_an_image(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    cli("sample", "--model", tiny_bundle, "--seed", 7, "-n", 1, "--out", tmp_path, check=True)
    assert cli("info", tmp_path / "tiny-7-0.png").stdout.splitlines() == [
        "model: tiny",
        f"bundle: {bundle.load(tiny_bundle).sha256}",
        "steps: 3",
        "seed: 7",
        "index: 0",
        "n: 1",
        f"version: {genfast.__version__}",
        "command: genfast sample --model path/to/tiny --steps 3 --seed 7 --start 0 -n 1",
    ]


@pytest.mark.parametrize(
    "name", [name for name in catalog.entries() if hub.locate(catalog.entry(name).variant().bundle)]
)
def test_the_card_of_a_known_model_says_all_that_a_card_must(cli, name: str) -> None:
    card = json.loads(cli("info", name, "--json", check=True).stdout)
    assert card["licence"] and card["limits"] and card["provenance"]["dataset"] and card["figures"]
    assert card["provenance"]["dataset_licence"] and card["provenance"]["recipe"] and card["provenance"]["commit"]


def test_the_credits_that_licences_want(cli) -> None:
    text = cli("info", "avatars1024", check=True).stdout
    assert "Lisa Wischofsky: CC BY 4.0" in text and "limits: Cartoon faces" in text


def test_the_card_of_a_model(cli, tiny_bundle: Path) -> None:
    lines = cli("info", tiny_bundle).stdout.splitlines()
    for line in (
        "name: tiny",
        "licence: Apache-2.0",
        "  height: 6",
        "steps: 3",
        "  dataset: none",
        f"folder: {tiny_bundle}",
    ):
        assert line in lines
    assert not [line for line in lines if line.startswith(("schedule:", "latent:", "graphs:", "bytes:"))]
    everything = cli("info", tiny_bundle, "--all").stdout.splitlines()
    assert everything[: len(lines)] == lines  # what there is beside comes last
    for line in "schedule:", "latent: 2", "graphs:", "    path: step.onnx":
        assert line in everything[len(lines) :]
    card = json.loads(cli("info", tiny_bundle, "--json").stdout)
    assert card["image"] == {"height": 6, "width": 8, "channels": 3}
    assert card["bytes"] == (tiny_bundle / "step.onnx").stat().st_size


def test_a_name_of_the_catalogue_is_said_of_its_own_weights_alone(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    manifest = (other / "manifest.json").read_text().replace('"tiny"', '"fashion28"')
    (other / "manifest.json").write_text(manifest)
    cli("sample", "-n", 1, "--out", tmp_path, check=True)
    cli("sample", "--model", other, "-n", 1, "--out", tmp_path, "--seed", 1, check=True)
    commands = [json.loads(cli("info", tmp_path / f"fashion28-{i}-0.png", "--json").stdout)["command"] for i in (0, 1)]
    assert "--model fashion28 --steps 4 " in commands[0] and "--model path/to/fashion28 --steps 3 " in commands[1]


def test_a_card_for_people_leaves_parity_to_those_who_ask(run: Run) -> None:
    """Figures that say how near a graph is to its network, and what the bundle is made of, come with --all and JSON."""
    short, long, document = (run(f"info avatars1024{more}")[1] for more in ("", " --all", " --json"))
    names = [figure["name"] for figure in json.loads(document)["figures"]]
    parity = [name for name in names if name.startswith(("parity", "fp32", "int8"))]
    assert parity and not [name for name in parity if name in short]
    assert len(names) > len(parity) and all(f"  {name}: " in short for name in names if name not in parity)
    assert all(f"  {name}: " in long for name in names)
    assert "pixel_likelihood" in long and "pixel_likelihood" not in short
    assert len(short.splitlines()) < 60 < len(long.splitlines())


def test_the_card_says_what_a_model_can_fill(run: Run) -> None:
    """As the help does, and the README."""
    for line in "info avatars1024", "inpaint --help":
        code, out, _ = run(line)
        assert code == 0 and "cartoon faces" in " ".join(out.replace("│", " ").split()).lower()
    readme = (Path(genfast.__file__).parents[1] / "README.md").read_text()
    assert "fills holes of such faces alone" in " ".join(run("info avatars1024")[1].split())
    assert re.search(r"cartoon faces", readme, re.I)


@pytest.mark.parametrize("name", ["nope.png", "nope.JPG", "nowhere/nope.avif"])
def test_an_image_that_is_not_there_is_no_model(run: Run, name: str) -> None:
    assert run(f"info {name}") == (3, "", f"genfast: error: {name} does not exist\n")
