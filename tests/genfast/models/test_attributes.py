"""Pictures that are asked for by attributes: what the network is told, which class, what changes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.bundles import bundle
from genfast.errors import InputError, UsageError
from genfast.models.tokens import TokenModel
from tests.genfast.models.test_tokens import watched
from tests.graphs.bundles import write_token_bundle

BLANK, HOLE = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), bool)
HOLE[:2, :2] = True


@pytest.fixture
def dolls(attribute_bundle: Path) -> TokenModel:
    loaded = genfast.load(str(attribute_bundle), device="cpu")
    assert isinstance(loaded, TokenModel)
    return loaded


def test_drafts_are_loaded_once_and_only_to_draw(attribute_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, read = [], genfast.models.drafts.read
    monkeypatch.setattr("genfast.models.drafts.read", lambda bundle: calls.append(bundle) or read(bundle))
    model = genfast.load(str(attribute_bundle), device="cpu")
    assert not calls
    model.sample(2, attributes={"hair": "long"})
    assert len(calls) == 1


def test_the_network_is_told_the_draft_of_what_is_set_and_what_is_drawn(
    dolls: TokenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = dolls.drafts()
    labels = np.array([0, 1, 2])
    rows = drafts.table.choose(labels, seed=5, indices=range(3))
    rows[:, 0] = 2
    given = watched(dolls, monkeypatch, "label", "draft")
    dolls.sample(3, seed=5, attributes={"hair": "curls"})
    assert len(given) == 3 * dolls.steps
    for i, (label, draft) in enumerate(given[:: dolls.steps]):
        assert label.tolist() == [i] and np.array_equal(draft, drafts.of(labels, rows)[i : i + 1])
    assert [dolls.attributes_of(i, seed=5, attributes={"hair": "curls"}) for i in range(3)] == [
        drafts.table.named(row) for row in rows
    ]


def test_an_image_depends_on_seed_index_and_what_is_set(dolls: TokenModel) -> None:
    plain = dolls.sample(9, seed=7)
    for batch in 1, 2:
        assert np.array_equal(dolls.sample(9, seed=7, batch=batch), plain)
    curls = dolls.sample(9, seed=7, attributes={"hair": "curls"})
    assert np.array_equal(
        np.concatenate(list(dolls.batches([8, 3], seed=7, attributes={"hair": "Curls"}))), curls[[8, 3]]
    )
    had = np.array([dolls.attributes_of(i, seed=7)["hair"] == "curls" for i in range(9)])
    assert 0 < had.sum() < 9 and np.array_equal((plain == curls).all((1, 2, 3)), had)
    *_, last = dolls.history(4, seed=7, attributes={"hair": "curls"})
    assert np.array_equal(last, curls[4])
    assert np.array_equal(genfast.sample(dolls, 9, seed=7, attributes={"hair": "curls"}), curls)


def test_what_is_not_set_stays(dolls: TokenModel) -> None:
    for index in range(12):
        before = dolls.attributes_of(index, seed=1)
        after = dolls.attributes_of(index, seed=1, label=dolls.label(index), attributes={"hair-colour": "black"})
        assert after == before | {"hair-colour": "#000000"}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, ["red", "light blue", "green"] * 4),
        ({"hair": "curls"}, ["red", "light blue", "green"] * 4),
        ({"hair": "bun"}, ["red", "green", "green", "red", "red", "green"] * 2),
        ({"glasses": "round"}, ["green"] * 12),
    ],
)
def test_a_class_that_cannot_have_it_gives_its_turn_to_one_that_can(
    dolls: TokenModel, attributes: dict[str, str], expected: list[str]
) -> None:
    found = [dolls.label(index, attributes=attributes) for index in range(12)]
    assert found == expected
    own = dolls.sample(3, attributes=attributes)
    alone = [dolls.sample(1, start=i, label=found[i], attributes=attributes)[0] for i in range(3)]
    assert np.array_equal(own, alone)


def test_a_hole_is_told_what_is_set_and_all_else_is_open(dolls: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    given = watched(dolls, monkeypatch, "label", "draft")
    drafts = dolls.drafts()
    for how, label, row in (
        ({}, 3, [0, 0, 0]),
        ({"label": "red"}, 0, [0, 0, 0]),
        ({"label": "red", "attributes": {"hair": "bun"}}, 0, [1, 0, 0]),
        ({"attributes": {"glasses": "round"}}, 2, [0, 0, 2]),  # which green ones alone have
    ):
        given.clear()
        filling = dolls.fill(BLANK, HOLE, **how)
        assert filling.label == [*dolls.bundle.manifest.classes, None][label]
        assert filling.attributes == drafts.table.named(np.array(row))
        draft = drafts.of(np.array([label]), np.array([row]))
        assert len(given) == dolls.fill_steps
        assert all(told.tolist() == [label] and np.array_equal(seen, draft) for told, seen in given)
    asked = {"seed": 3, "attributes": {"glasses": "round"}}
    given.clear()
    dolls.fill(BLANK, np.ones_like(HOLE), index=4, **asked)  # where nothing is around, as a whole picture
    dolls.sample(1, start=4, **asked)
    assert all(np.array_equal(a, b) for a, b in zip(given[0], given[-1], strict=True))


def test_a_hole_is_told_what_its_surroundings_show(
    dolls: TokenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a picture whose tokens are what drafts of some attributes would have them be; of another, all is open."""
    label, row = np.array([2]), np.array([[3, 1, 2]])
    tokens = np.arange(6)
    marks = np.full((32, 2), 9, np.float32)
    marks[tokens] = dolls.drafts().of(label, row)[0]
    seer = genfast.load(str(write_token_bundle(tmp_path / "seer", attributes=True, marks=marks)), device="cpu")
    assert isinstance(seer, TokenModel)
    hole = np.zeros((4, 6), bool)
    hole[2:, 4:] = True
    given = watched(seer, monkeypatch, "label", "draft")
    for how, first, expected in (
        ({}, 0, (2, [3, 1, 2])),
        ({"attributes": {"hair": "long"}}, 0, (2, [3, 1, 2])),  # which light blue ones have, too
        ({"attributes": {"hair": "bun"}}, 0, (2, [1, 1, 2])),  # which is not what is there
        ({}, 10, (3, [0, 0, 0])),
        ({"label": "red"}, 10, (0, [0, 0, 0])),
    ):
        given.clear()
        filling = seer.fill(seer.decode(tokens[None] + first)[0], hole, **how)
        assert filling.attributes == seer.drafts().table.named(np.array(expected[1])), how
        (told, seen), *_ = given
        assert told.tolist() == [expected[0]], how
        assert np.array_equal(seen, seer.drafts().of(told, np.array([expected[1]]))), how
    several = "what is set fits several classes: red, green; choose one by --class"
    with pytest.raises(InputError, match=f"^its class is not recognised, and {several}"):
        seer.fill(seer.decode(tokens[None] + 10)[0], hole, attributes={"hair": "bun"})


def test_a_hole_of_one_of_several_classes_must_be_told_which(dolls: TokenModel) -> None:
    message = "^what is set fits several classes: red, green; choose one by --class$"
    for refused in (
        lambda: dolls.fill(BLANK, HOLE, attributes={"hair": "bun"}),
        lambda: genfast.inpaint(dolls, BLANK, np.zeros_like(HOLE), attributes={"hair": "bun"}),
    ):
        with pytest.raises(UsageError, match=message):
            refused()
    told = [
        genfast.inpaint(dolls, BLANK, HOLE, n=9, label="red", attributes={"hair": hair})[0].image
        for hair in ("bun", "curls")
    ]
    assert not np.array_equal(*told)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"attributes": {"hair": "bum"}}, "pictures never have hair=bum; the nearest: bun"),
        ({"attributes": {"beard": "bun"}}, "there is no attribute 'beard'; the nearest: "),
        ({"attributes": {"glasses": "none"}, "label": "red"}, "pictures of red have no glasses; those of green do"),
        ({"attributes": {"hair": "bun"}, "label": "blue"}, "dolls has no class 'blue'"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(dolls: TokenModel, how: dict[str, object], message: str) -> None:
    for refused in (
        lambda: dolls.batches(range(2), **how),
        lambda: dolls.history(0, **how),
        lambda: dolls.attributes_of(0, **how),
        lambda: dolls.fill(BLANK, HOLE, **how),
    ):
        with pytest.raises(UsageError, match=message):
            refused()


def test_models_without_attributes_say_so(token_bundle: Path, shaded_bundle: Path) -> None:
    for folder in token_bundle, shaded_bundle:
        model = genfast.load(str(folder), device="cpu")
        image = np.zeros((model.image.height, model.image.width, 3), np.uint8)
        hole = np.ones(image.shape[:2], bool)
        assert model.attributes_of(3) == {}
        assert np.array_equal(model.sample(2, attributes={}), model.sample(2))
        for refused in (
            lambda model=model: model.batches([0], attributes={"hair": "bun"}),
            lambda model=model, image=image, hole=hole: model.fill(image, hole, attributes={"hair": "bun"}),
        ):
            with pytest.raises(UsageError, match=f"^{model.name} has no attributes, and so no hair$"):
                refused()


def test_a_model_without_classes(attribute_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(attribute_bundle, tmp_path / "plain")
    rows = np.load(folder / "attributes.npy")
    np.save(folder / "attributes.npy", rows * [0, 1, 1, 1])
    for path in folder.glob("draft_*.npy"):
        np.save(path, np.load(path)[:1])
    np.savez(folder / "draft_basis.npz", np.load(folder / "draft_basis.npz")["arr_0"][:1])
    bundle.write(folder, **bundle.read(folder).manifest.model_dump(exclude={"format", "files", "classes"}))
    model = genfast.load(str(folder), device="cpu")
    assert model.label(1, attributes={"glasses": "round"}) is None
    assert model.attributes_of(1, attributes={"glasses": "round"})["glasses"] == "round"
    assert model.sample(2, attributes={"glasses": "round"}).shape == (2, 4, 6, 3)
    model.fill(BLANK, HOLE, attributes={"glasses": "round"})
    with pytest.raises(UsageError, match="^pictures never have hair=bum; the nearest: bun$"):
        model.sample(1, attributes={"hair": "bum"})
