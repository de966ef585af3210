import shutil
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast import bundle
from genfast.errors import UsageError
from genfast.models import TokenModel
from genfast.noise import Purpose, uniform
from genfast.session import Session


@pytest.fixture
def model(token_bundle: Path) -> TokenModel:
    loaded = genfast.load(str(token_bundle))
    assert isinstance(loaded, TokenModel)
    return loaded


def test_tokens_are_drawn_and_decoded(model: TokenModel) -> None:
    assert (model.name, model.steps, model.options.temperature_end) == ("squares", 7, 0.5)
    images = model.sample(5, seed=1)
    assert images.shape == (5, 4, 6, 3) and images.dtype == np.uint8
    encode = Session(model.bundle.graph("encode"), "cpu")
    tokens = encode.run(image=images)["tokens"]
    assert np.array_equal(model.decode.run(tokens=tokens)["image"], images)
    assert len(np.unique(tokens, axis=0)) == 5


def test_one_step_at_temperature_one_is_the_distribution_of_the_graph(model: TokenModel) -> None:
    images = model.sample(3, seed=5, steps=1, temperature=1.0)
    z_0 = (uniform(5, range(3), 0, Purpose.TOKENS, (6,)).astype(float) * 32).astype(np.int64)
    u = uniform(5, range(3), 1, Purpose.CATEGORY, (6,))
    themes = model.themes()[range(3), (uniform(5, range(3), 0, Purpose.THEME, (1,))[:, 0] * 4).astype(int)]
    for i in range(3):
        given = {"label": np.array([i]), "theme": themes[i : i + 1], "known": np.zeros((1, 6), bool)}  # classes in turn
        hidden = model.predict.run(tokens=z_0[i : i + 1], **given)["hidden"]
        drawn = model.draw.run(
            hidden=hidden,
            tokens=z_0[i : i + 1],
            update=np.ones((1, 6), bool),
            temperature=np.ones(1, np.float32),
            uniform=u[i : i + 1],
            judge=np.ones(1, bool),
            evidence=np.zeros((1, 6, 1), np.float32),
        )
        assert np.array_equal(model.decode.run(tokens=drawn["drawn"])["image"][0], images[i])


@pytest.mark.parametrize("options", [{}, {"order": "chance"}, {"order": "random", "steps": 30, "guidance": 2.0}])
def test_an_image_depends_on_seed_and_index_alone(model: TokenModel, options: dict[str, object]) -> None:
    """Also where an int8 graph takes the range of its activations from the batch, as that of this bundle does."""
    images = model.sample(9, seed=7, **options)
    assert len(np.unique(images.reshape(9, -1), axis=0)) > 5
    for batch in 1, 2, 9:
        assert np.array_equal(model.sample(9, seed=7, batch=batch, **options), images)
    chosen = list(model.batches([8, 0, 3], seed=7, batch=2, **options))
    assert [len(some) for some in chosen] == [2, 1]
    assert np.array_equal(np.concatenate(chosen), images[[8, 0, 3]])
    assert not np.array_equal(model.sample(9, seed=8, **options), images)


def test_classes_take_turns_unless_one_is_asked_for(model: TokenModel) -> None:
    assert [model.label(i) for i in range(4)] == ["red", "light blue", "green", "red"]
    assert model.label(0, label="green") == "green"
    images = model.sample(6)
    green = model.sample(6, label="green")
    same = (images == green).all((1, 2, 3))
    assert same.tolist() == [False, False, True] * 2


def test_a_model_without_classes(token_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(token_bundle, tmp_path / "plain")
    manifest = bundle.load(folder).manifest
    fields = manifest.model_dump(exclude={"format", "files", "classes"})
    bundle.write(folder, **fields)
    model = genfast.load(str(folder))
    assert model.label(3) is None
    assert model.sample(2).shape == (2, 4, 6, 3)
    with pytest.raises(UsageError, match="squares has no class 'red'; it has: none"):
        model.sample(2, label="red")


def test_options_override_the_defaults_of_the_bundle(model: TokenModel, token_bundle: Path) -> None:
    eleven = genfast.load(str(token_bundle), steps=11)
    assert eleven.steps == 11
    assert np.array_equal(eleven.sample(3), model.sample(3, steps=11))
    given = dict(temperature=2.0, temperature_end=3.0, guidance=1.5, growth=3.0, choice_temperature=4.0, settle=0.5)
    given["seams"] = 1.0
    for name, value in given.items():
        assert not np.array_equal(model.sample(9, **{name: value}), model.sample(9)), name
    assert np.array_equal(model.sample(9, temperature=1.0, temperature_end=0.5), model.sample(9))


def test_a_share_that_is_asked_for_holds_at_any_number_of_steps(model: TokenModel) -> None:
    all_tokens = model.sample(9, order="random")  # since 7 steps are few
    assert np.array_equal(model.sample(9, order="random", share=1.0, share_end=1.0), all_tokens)
    assert not np.array_equal(model.sample(9, order="random", share=0.5), all_tokens)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 1}, "squares is of family vq-sundae, which takes no colour"),
        ({"label": "blue"}, "squares has no class 'blue'; it has: red, light blue, green"),
        ({"share": 0.5}, "order confidence takes no share"),
        ({"order": "random", "choice_temperature": 1.0}, "order random takes no choice-temperature"),
        ({"order": "chance", "choice_temperature": 1.0}, "order chance takes no choice-temperature"),
        ({"steps": 0}, "steps must lie in 1 .. 1000, not 0"),
        ({"seed": -1}, "must lie in 0 .. 2"),
        ({"batch": 0}, "the batch must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    model: TokenModel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        model.batches(range(2), **options)
    if "batch" not in options:
        with pytest.raises(UsageError, match=message):
            model.history(0, **options)


def test_diffusion_takes_no_options(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="tiny is of family ddgan, which takes no guidance, min-steps"):
        genfast.load(str(tiny_bundle)).sample(1, min_steps=3, guidance=2.0)


def test_classes_of_a_diffusion_model_take_turns_too(shaded_bundle: Path) -> None:
    labelled = genfast.load(str(shaded_bundle), device="cpu")
    images, light = labelled.sample(6), labelled.sample(6, label="light")
    assert (images == light).all((1, 2, 3)).tolist() == [False, True] * 3
    assert (labelled.sample(6, batch=1) == images).all() and [labelled.label(i) for i in (0, 3)] == ["dark", "light"]
    with pytest.raises(UsageError, match="shades has no class 'red'; it has: dark, light"):
        labelled.sample(1, label="red")


def test_a_hole_is_filled_as_its_surroundings_have_it_unless_a_class_is_asked_for(shaded_bundle: Path) -> None:
    labelled = genfast.load(str(shaded_bundle), device="cpu")
    picture, hole = np.full((6, 8, 3), 100, np.uint8), np.ones((6, 8), bool)
    dark, light, none = (
        labelled.fill(picture, hole, **options)[0].mean() for options in ({"label": "dark"}, {"label": "light"}, {})
    )
    assert dark < light < none


@pytest.mark.parametrize("name", ["token_bundle", "tiny_bundle"])
def test_a_history_ends_with_the_image(name: str, request: pytest.FixtureRequest) -> None:
    model = genfast.load(str(request.getfixturevalue(name)))
    frames = list(model.history(4, seed=2))
    assert len(frames) == model.steps + 1
    assert np.array_equal(frames[-1], model.sample(1, seed=2, start=4)[0])
    assert len({frame.tobytes() for frame in frames}) > 2


@pytest.mark.parametrize(("device", "first", "rest"), [("cpu", 1, {1}), ("cuda:0", 4, {1, 2, 3, 4})])
def test_finished_images_leave_the_batch(
    model: TokenModel, monkeypatch: pytest.MonkeyPatch, device: str, first: int, rest: set[int]
) -> None:
    """On the CPU, a batch is computed one by one."""
    calls: list[int] = []
    run = model.predict.bind()

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(inputs["tokens"]))
        return run(**inputs)

    monkeypatch.setattr(model.predict, "bind", lambda: watched)
    monkeypatch.setattr(model.predict, "device", device)
    model.sample(4, steps=200, order="random", temperature=0.01, temperature_end=0.01, min_steps=3)
    assert calls[0] == first and set(calls) <= rest
    assert 4 * 3 <= sum(calls) < 4 * 200


def test_what_a_step_computes_stays_where_it_is(
    model: TokenModel, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features go from one graph to the other, and x_t from one step to the next, without becoming arrays of numpy."""
    diffusion = genfast.load(str(tiny_bundle), device="cpu")
    seen: dict[str, list[object]] = {"hidden": [], "x_t": []}

    def watch(session: Session, name: str) -> None:
        run = session.bind()

        def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
            seen[name].append(inputs[name])
            return run(**inputs)

        monkeypatch.setattr(session, "bind", lambda: watched)

    watch(model.draw, "hidden")
    watch(diffusion.session, "x_t")
    model.sample(1)
    diffusion.sample(2)
    assert {type(value).__name__ for value in seen["hidden"]} == {"OrtValue"}
    assert [type(value).__name__ for value in seen["x_t"]] == ["ndarray", "OrtValue", "OrtValue"]


def test_a_hole_is_filled_in_steps_of_its_own(model: TokenModel, token_bundle: Path) -> None:
    def frames(model: genfast.Model, **options: int) -> int:
        seen: list[np.ndarray] = []
        model.fill(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool), watch=seen.append, **options)
        return len(seen)

    assert frames(model) == model.filling_steps + 1 == 5 and frames(model, steps=2) == 3
    asked = genfast.load(str(token_bundle), steps=3)
    assert frames(asked) == asked.filling_steps + 1 == 4


def test_what_is_left_of_a_token_is_evidence_of_it(model: TokenModel) -> None:
    """A token that the hole cuts is drawn as what is seen of it says, one that lies in the hole is not."""
    picture = model.sample(1, seed=3)[0]  # squares of 2x2 pixels
    hole = np.zeros((4, 6), bool)
    hole[:2, :2] = hole[2, 2:4] = True
    blank = np.where(hole[..., None], 0, picture).astype(np.uint8)
    fills = [model.fill(blank, hole, index=index, temperature=1.0, temperature_end=1.0)[0] for index in range(20)]
    assert all(np.array_equal(fill[2:], picture[2:]) for fill in fills)
    assert len({fill[0, 0].tobytes() for fill in fills}) > 3


def test_the_theme_is_that_of_what_is_around(model: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is, it is drawn as for a whole picture."""
    given: list[np.ndarray] = []
    run = model.predict.bind()

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        given.append(inputs["theme"])
        return run(**inputs)

    monkeypatch.setattr(model.predict, "bind", lambda: watched)
    picture, hole = np.full((4, 6, 3), 8 * 11, np.uint8), np.zeros((4, 6), bool)
    hole[:2, :2] = True
    model.fill(picture, hole)
    assert np.array_equal(given, [[[11 / 32, 0]]] * model.filling_steps)
    given.clear()
    model.fill(picture, np.ones_like(hole), label="green", seed=3)
    model.sample(1, label="green", seed=3, steps=1)
    assert all(np.array_equal(theme, given[-1]) for theme in given) and (given[0] != 0).all()


def test_seams_make_neighbours_fit(model: TokenModel) -> None:
    """Here, by being alike: of two neighbours, the one that was drawn last is as the one before it."""
    options = dict(steps=20, min_steps=20, settle=0.5, temperature_end=1.0)
    plain, fitting = (model.sample(9, seams=weight, **options)[:, ::2, ::2, 0].reshape(9, 6) for weight in (0, 10))
    assert np.array_equal(fitting[:, [2, 4]], fitting[:, [1, 3]])
    assert (plain[:, [2, 4]] != plain[:, [1, 3]]).mean() > 0.5


def test_where_predict_has_no_graph_for_cuda_the_cpu_is_taken(token_bundle: Path) -> None:
    assert genfast.load(str(token_bundle), device="auto").predict.device == "cpu"
