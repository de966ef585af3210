import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import genfast
from genfast.bundles import bundle
from genfast.errors import UsageError
from genfast.models.tokens import TokenModel
from genfast.runtime.session import Session
from genfast.samplers.noise import Purpose, uniform
from genfast.samplers.options import (
    MaskGITOptions,
    Options,
    RandomOrderOptions,
    RePaintOptions,
    SundaeOptions,
    TokenOptions,
)


@pytest.fixture
def model(token_bundle: Path) -> TokenModel:
    loaded = genfast.load(str(token_bundle), device="cpu")
    assert isinstance(loaded, TokenModel)
    return loaded


def test_tokens_are_drawn_and_decoded(model: TokenModel) -> None:
    assert (model.name, model.steps, model.options.temperature_end) == ("squares", 7, 0.5)
    images = model.sample(5, seed=1)
    assert images.shape == (5, 4, 6, 3) and images.dtype == np.uint8
    encode = Session(model.bundle.graph("encode"), "cpu")
    tokens = encode.run(image=images)["tokens"]
    assert np.array_equal(model.decoder.run(tokens=tokens)["image"], images)
    assert len(np.unique(tokens, axis=0)) == 5


def test_one_step_at_temperature_one_is_the_distribution_of_the_graph(model: TokenModel) -> None:
    images = model.sample(3, seed=5, options=MaskGITOptions(steps=1, temperature=1.0))
    z_0 = (uniform(5, range(3), 0, Purpose.TOKENS, (6,)).astype(float) * 32).astype(np.int64)
    u = uniform(5, range(3), 1, Purpose.CATEGORY, (6,))
    for i in range(3):  # classes in turn
        given = {"label": np.array([i]), "known": np.zeros((1, 6), bool)}
        hidden = model.predict.run(tokens=z_0[i : i + 1], **given)["hidden"]
        drawn = model.draw.run(
            hidden=hidden,
            tokens=z_0[i : i + 1],
            update=np.ones((1, 6), bool),
            temperature=np.ones(1, np.float32),
            uniform=u[i : i + 1],
            return_prob=np.ones(1, bool),
            logit_bias=np.zeros((1, 6, 1), np.float32),
        )
        assert np.array_equal(model.decoder.run(tokens=drawn["drawn"])["image"][0], images[i])


@pytest.mark.parametrize("options", [None, RandomOrderOptions(), SundaeOptions(steps=30, guidance=2.0)])
def test_an_image_depends_on_seed_and_index_alone(model: TokenModel, options: TokenOptions | None) -> None:
    """Also where an int8 graph takes the range of its activations from the batch, as that of this bundle does."""
    images = model.sample(9, seed=7, options=options)
    assert len(np.unique(images.reshape(9, -1), axis=0)) > 5
    for batch in 1, 2, 9:
        assert np.array_equal(model.sample(9, seed=7, batch=batch, options=options), images)
    chosen = list(model.batches([8, 0, 3], seed=7, batch=2, options=options))
    assert [len(some) for some in chosen] == [2, 1]
    assert np.array_equal(np.concatenate(chosen), images[[8, 0, 3]])
    assert not np.array_equal(model.sample(9, seed=8, options=options), images)


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
    model = genfast.load(str(folder), device="cpu")
    assert model.label(3) is None
    assert model.sample(2).shape == (2, 4, 6, 3)
    with pytest.raises(UsageError, match="squares has no class 'red'; it has: none"):
        model.sample(2, label="red")


def test_options_take_the_place_of_those_of_the_bundle(model: TokenModel, token_bundle: Path) -> None:
    assert model.options == MaskGITOptions(steps=7, temperature_end=0.5)
    eleven = genfast.load(str(token_bundle), steps=11, device="cpu")
    assert eleven.steps == eleven.fill_steps == 11
    assert np.array_equal(eleven.sample(3), model.sample(3, options=replace(model.options, steps=11)))
    plain = model.sample(9)
    for name, value in {
        "temperature": 2.0,
        "temperature_end": 3.0,
        "guidance": 1.5,
        "power": 3.0,
        "choice_temperature": 4.0,
        "refine": 0.5,
    }.items():
        assert not np.array_equal(model.sample(9, options=model.options.adjusted({name: value})), plain), name
    assert np.array_equal(model.sample(9, options=MaskGITOptions(steps=7, temperature=1.0, temperature_end=0.5)), plain)


def test_a_bundle_without_options_draws_as_maskgit_does(token_bundle: Path, tmp_path: Path, model: TokenModel) -> None:
    folder = shutil.copytree(token_bundle, tmp_path / "plain")
    fields = bundle.load(folder).manifest.model_dump(exclude={"format", "files", "sampling"})
    bundle.write(folder, **fields)
    plain = genfast.load(str(folder), device="cpu")
    assert plain.options == plain.fill_options == MaskGITOptions()
    assert np.array_equal(plain.sample(3), model.sample(3, options=MaskGITOptions()))


def test_a_ratio_that_is_asked_for_holds_at_any_number_of_steps(model: TokenModel) -> None:
    half = model.sample(9, options=SundaeOptions(steps=7))
    assert np.array_equal(model.sample(9, options=SundaeOptions(steps=7, redraw_ratio=0.5)), half)
    for ratio in 1.0, 0.9:
        given = SundaeOptions(steps=7, redraw_ratio=ratio, redraw_ratio_end=ratio)
        assert not np.array_equal(model.sample(9, options=given), half)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": RePaintOptions()}, "squares is of family vq-sundae, which takes no options of sampler repaint"),
        ({"options": Options()}, "squares is of family vq-sundae, which takes no options of sampler "),
        ({"label": "blue"}, "squares has no class 'blue'; it has: red, light blue, green"),
        ({"seed": -1}, "must lie in 0 .. 2"),
        ({"batch": 0}, "the batch must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(model: TokenModel, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model.batches(range(2), **arguments)
    if "batch" not in arguments:
        with pytest.raises(UsageError, match=message):
            model.history(0, **arguments)
        with pytest.raises(UsageError, match=message):
            model.fill(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool), **arguments)


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
    model.sample(4, options=SundaeOptions(steps=200, temperature=0.01, temperature_end=0.01, min_steps=3))
    assert calls[0] == first and set(calls) <= rest
    assert 4 * 3 <= sum(calls) < 4 * 200


def test_what_a_step_computes_stays_where_it_is(model: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features go from one graph to the other without becoming arrays of numpy."""
    seen: list[str] = []
    run = model.draw.bind()

    def watched(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(type(inputs["hidden"]).__name__)
        return run(**inputs)

    monkeypatch.setattr(model.draw, "bind", lambda: watched)
    model.sample(1)
    assert set(seen) == {"OrtValue"}


def test_a_hole_is_filled_in_steps_of_its_own(model: TokenModel, token_bundle: Path) -> None:
    def frames(model: genfast.Model, options: TokenOptions | None = None) -> int:
        seen: list[np.ndarray] = []
        model.fill(np.zeros((4, 6, 3), np.uint8), np.ones((4, 6), bool), callback=seen.append, options=options)
        return len(seen)

    assert frames(model) == model.fill_steps + 1 == 5 and frames(model, MaskGITOptions(steps=2)) == 3
    asked = genfast.load(str(token_bundle), steps=3, device="cpu")
    assert frames(asked) == asked.fill_steps + 1 == 4


@pytest.mark.parametrize("kind", [MaskGITOptions, RandomOrderOptions, SundaeOptions])
def test_what_is_left_of_a_token_tells_of_it(model: TokenModel, kind: type[TokenOptions]) -> None:
    """A token that the hole cuts is drawn as what is seen of it says, one that lies in the hole is not."""
    picture = model.sample(1, seed=3)[0]  # squares of 2x2 pixels
    hole = np.zeros((4, 6), bool)
    hole[:2, :2] = hole[2, 2:4] = True
    blank = np.where(hole[..., None], 0, picture).astype(np.uint8)
    options = kind(steps=4, temperature_end=1.0)
    if isinstance(options, SundaeOptions):  # which draws no token for sure
        options = replace(options, redraw_ratio=1.0, redraw_ratio_end=1.0)
    fills = [model.fill(blank, hole, index=index, options=options).picture for index in range(20)]
    assert all(np.array_equal(fill[2:], picture[2:]) for fill in fills)
    assert len({fill[0, 0].tobytes() for fill in fills}) > 3


def watched(model: TokenModel, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[tuple[np.ndarray, ...]]:
    """Those inputs of `predict` that are named, of each call."""
    given: list[tuple[np.ndarray, ...]] = []
    run = model.predict.bind()

    def predict(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        given.append(tuple(inputs[name].copy() for name in names))
        return run(**inputs)

    monkeypatch.setattr(model.predict, "bind", lambda: predict)
    return given


def test_the_class_of_a_hole_is_open_unless_it_is_given(model: TokenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is around, it is drawn as a whole picture."""
    picture, hole = np.full((4, 6, 3), 8 * 11, np.uint8), np.zeros((4, 6), bool)
    hole[:2, :2] = True
    given = watched(model, monkeypatch, "label")
    for label, whole, expected in (None, False, 3), ("green", False, 2), (None, True, 1), ("green", True, 2):
        given.clear()
        model.fill(picture, np.ones_like(hole) if whole else hole, index=1, label=label)
        assert [label.tolist() for (label,) in given] == [[expected]] * model.fill_steps


def test_a_fill_is_ranked_by_the_tokens_that_were_drawn(model: TokenModel) -> None:
    picture, hole = np.full((4, 6, 3), 8 * 11, np.uint8), np.zeros((4, 6), bool)
    hole[:2, :4] = True
    ranked = model.fill(picture, hole, rank=True, seed=2)
    assert ranked.logs.shape == (2,) and ranked.logs.dtype == np.float32 and (ranked.logs < 0).all()
    again = model.fill(picture, hole, seed=2)
    assert np.array_equal(ranked.picture, again.picture) and again.logs.shape == (0,)
    untouched = model.fill(picture, np.zeros_like(hole), rank=True)
    assert np.array_equal(untouched.picture, picture) and untouched.logs.shape == (0,)


def test_where_predict_has_no_graph_for_cuda_the_cpu_is_taken(token_bundle: Path) -> None:
    assert genfast.load(str(token_bundle), device="auto").predict.device == "cpu"
