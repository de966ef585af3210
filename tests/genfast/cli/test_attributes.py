"""`--set` of sample, inpaint and fid, and what `info` tells of attributes: the real command line."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.bundles import bundle
from genfast.images import folder, io
from genfast.images.params import read_params
from genfast.models.drafts import read_table
from tests.genfast.cli.conftest import Run
from tests.genfast.conftest import write_extractor


def test_pictures_of_what_is_set(cli, attribute_bundle: Path, tmp_path: Path) -> None:
    asked = ("--set", "hair=bun", "--set", "hair-colour=Brown")
    done = cli("sample", "--model", attribute_bundle, "-n", 4, "--seed", 7, *asked, "--out", tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    model = genfast.load(str(attribute_bundle))
    settings = {"hair": "bun", "hair-colour": "brown"}
    cards = json.loads(done.stdout)["images"]
    pictures = folder.read_all([Path(card["path"]) for card in cards])
    assert np.array_equal(pictures, model.sample(4, seed=7, attributes=settings))
    for index, card in enumerate(cards):
        assert card["class"] == model.label(index, attributes=settings) in ("red", "green")
        assert card["attributes"] == model.attributes_of(index, seed=7, attributes=settings)
        assert card["attributes"].items() >= {"hair": "bun", "hair-colour": "#6b4423"}.items()
        params = read_params(Path(card["path"]))
        assert params.options == {"class": card["class"], "set": ("hair=bun", "hair-colour=Brown")}


@pytest.mark.parametrize(
    "name", ["dolls-7-1.png", "dolls-7-1-history.png", "dolls-7-1-strip.png", "dolls-7-grid-0-2.png"]
)
def test_the_command_in_a_picture_draws_it_again(run: Run, attribute_bundle: Path, tmp_path: Path, name: str) -> None:
    asked = "--set hair=bun --set 'hair-colour=saddle brown' --set glasses=none"
    out = tmp_path / "a"
    assert run(f"sample --model {attribute_bundle} -n 3 --seed 7 --history {asked} --out {out}")[0] == 0
    card = json.loads(run(f"info {out / name} --json")[1])
    assert card["options"]["set"] == ["glasses=none", "hair=bun", "hair-colour=saddle brown"]
    again = card["command"].replace("path/to/dolls", str(attribute_bundle)).removeprefix("genfast ")
    assert again.count(" --set ") == 3 and "'hair-colour=saddle brown'" in again
    assert run(f"{again} --out {tmp_path / 'b'}")[0] == 0
    assert (tmp_path / "b" / name).read_bytes() == (out / name).read_bytes()


def test_what_was_drawn_with_other_attributes_is_not_kept(run: Run, attribute_bundle: Path, tmp_path: Path) -> None:
    line = f"sample --model {attribute_bundle} -n 2 --class green --out {tmp_path} --skip-existing"
    assert run(f"{line} --set hair=bun --set glasses=none")[0] == 0
    assert run(f"{line} --set glasses=none --set hair=bun")[0] == 0
    code, _, err = run(f"{line} --set hair=curls")
    assert code == 2 and "was drawn otherwise" in err


def test_holes_are_filled_with_what_is_set(run: Run, attribute_bundle: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    mask = np.zeros((4, 6, 1), np.uint8)
    mask[:2, :4] = 255
    io.write(tmp_path / "face.png", image)
    io.write(tmp_path / "mask.png", mask)
    line = f"inpaint {tmp_path}/face.png {tmp_path}/mask.png --model {attribute_bundle} -n 3"
    filled = {}
    for asked in "--class red", "--class red --set hair=bun", "--class red --set hair=curls", "--set glasses=round":
        code, out, err = run(f"{line} {asked} --overwrite --json")
        assert (code, err) == (0, "")
        cards = json.loads(out)["images"][0]["fills"]
        words = shlex.split(asked)
        told = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        assert all(card["class"] == ("red" if "--class" in words else "green") for card in cards)
        assert all(card.get("attributes", {}) == dict(each.split("=") for each in told) for card in cards)
        paths = [Path(card["path"]) for card in cards]
        filled[asked] = np.stack([io.read(path) for path in paths])
        assert (filled[asked] == image)[:, mask[..., 0] == 0].all()
        card = json.loads(run(f"info {paths[0]} --json")[1])
        assert card["options"].get("set", []) == told
        assert card["command"].endswith(asked)
    assert len({pictures.tobytes() for pictures in filled.values()}) == 4
    assert run(f"{line} --set hair=bun --overwrite")[::2] == (
        2,
        "genfast: error: what is set fits several classes: red, green; choose one by --class\n",
    )


@pytest.fixture
def mouth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask of where faces have their mouth."""
    mask = np.zeros((1024, 1024, 1), np.uint8)
    mask[600:800, 350:650] = 255
    path = tmp_path_factory.mktemp("mask") / "mask.png"
    io.write(path, mask)
    return path


def test_what_a_face_shows_is_told(run: Run, mouth: Path, tmp_path: Path) -> None:
    """All but what is hidden, of a face that the model drew of known attributes."""
    code, out, _ = run(f"sample --model avatars1024 -n 1 --seed 5 --out {tmp_path} --json")
    (drawn,) = json.loads(out)["images"]
    code, out, _ = run(f"inpaint {drawn['path']} {mouth} --set glasses=none --json")
    (fill,) = json.loads(out)["images"][0]["fills"]
    assert (code, fill["class"]) == (0, drawn["class"])
    assert fill["attributes"].keys() == drawn["attributes"].keys()
    same = [name for name, value in drawn["attributes"].items() if fill["attributes"][name] == value]
    assert len(same) > 0.7 * len(drawn["attributes"]) and {"hair", "background"} <= {*same}


def test_a_picture_that_shows_no_class_fails_alone(run: Run, mouth: Path, tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    assert run(f"sample --model avatars1024 --class micah -n 1 --out {faces}")[0] == 0
    io.write(faces / "plain.png", np.full((1024, 1024, 3), 128, np.uint8))
    code, out, err = run(f"inpaint {faces} {mouth} --set glasses=none --out {tmp_path}/done")
    assert (code, Path(out.strip()).name) == (1, "avatars1024-0-0.inpainted.png")
    (failed,) = (line for line in err.splitlines() if "plain.png: its class is not recognised, and what is set" in line)
    assert failed.endswith("choose one by --class")


def test_what_is_set_is_measured(run: Run, attribute_bundle: Path, tmp_path: Path) -> None:
    real = np.random.default_rng(0).integers(0, 256, (50, 4, 6, 3), np.uint8)
    means = write_extractor(tmp_path / "means", "means", real, name="means", feature_dim=3)
    line = f"fid --model {attribute_bundle} --samples 30 --features {means}"
    code, out, _ = run(f"{line} --set hair=bun --json")
    (result,) = json.loads(out)["results"]
    assert code == 0 and result["attributes"] == {"hair": "bun"}
    expected = genfast.fid(str(attribute_bundle), samples=30, attributes={"hair": "bun"}, features=str(means))
    assert result["fid"] == pytest.approx(expected[0].fid)
    assert "  set        hair=bun\n" in run(f"{line} --set hair=bun")[1]
    plain = run(line)[1]
    assert "set " not in plain
    assert json.loads(run(f"{line} --json")[1])["results"][0]["fid"] != pytest.approx(result["fid"])


def test_attributes_are_listed_class_by_class(run: Run, attribute_bundle: Path) -> None:
    table = read_table(bundle.load(attribute_bundle))
    code, out, _ = run(f"info {attribute_bundle} --attributes --json")
    document = json.loads(out)
    assert code == 0 and document["model"] == "dolls"
    for each in document["attributes"]:
        label = table.classes.index(each["class"])
        (place,) = (i for i, attribute in enumerate(table.attributes) if attribute.name == each["name"])
        held = table.rows[table.labels == label][:, place]
        for value in each["values"]:
            number = table.attributes[place].values.index(value["value"]) + 1
            assert value["share"] == pytest.approx((held == number).mean())
        shares = [value["share"] for value in each["values"]]
        assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    kinds = [(each["class"], each["name"]) for each in document["attributes"]]
    assert kinds == [
        *((name, attribute) for name in ("red", "light blue") for attribute in ("hair", "hair-colour")),
        *(("green", attribute) for attribute in ("hair", "hair-colour", "glasses")),
    ]
    lines = run(f"info {attribute_bundle} --attributes")[1].splitlines()
    assert lines[0] == "red:" and lines[3] == "light blue:" and lines[6] == "green:" and len(lines) == 10
    assert sorted(lines[5].removeprefix("  hair-colour: ").split(", ")) == ["#000000 (black)", "#e3c482 (burlywood)"]


def test_a_card_names_the_attributes(run: Run, attribute_bundle: Path, token_bundle: Path) -> None:
    assert "attributes: hair, hair-colour, glasses" in run(f"info {attribute_bundle}")[1].splitlines()
    assert "attributes" not in run(f"info {token_bundle}")[1]
    card = json.loads(run(f"info {attribute_bundle} --json")[1])
    assert card["attributes"][2] == {"name": "glasses", "values": ["none", "round"], "colour": False}
