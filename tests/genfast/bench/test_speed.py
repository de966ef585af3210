from dataclasses import replace
from pathlib import Path

import pytest

import genfast
from genfast.bench import speed
from genfast.samplers.options import RandomOrderOptions, SundaeOptions


def test_operations_are_those_of_the_graph(conv_bundle: Path) -> None:
    """Three convolutions of 3x3 over 28x28 pixels, two products, four steps."""
    convolutions = 784 * 9 * (32 + 32 * 32 + 32)
    expected = 4 * 2 * (convolutions + 100 * 32 + 784 * 784)
    assert speed.flops(genfast.load(str(conv_bundle), device="cpu")) == {"float32": expected}


def test_operations_of_a_model_of_tokens_go_with_its_steps(token_bundle: Path) -> None:
    """Six tokens by seven features by 32 keys in each step."""
    for steps in 3, 9:
        a_step = 2 * 6 * 7 * 32
        assert speed.flops(genfast.load(str(token_bundle), steps=steps)) == {"float32": steps * a_step}


def test_no_image_is_finished_early_while_it_is_measured(token_bundle: Path) -> None:
    model = genfast.load(str(token_bundle))
    for options in SundaeOptions(steps=60, temperature=0.01, temperature_end=0.01), RandomOrderOptions(steps=20):
        counted = speed.flops(replace(model, options=options, steps=options.steps))
        assert counted == {"float32": options.steps * 2 * 6 * 7 * 32}


def test_operations_of_a_ddpm_do_without_products(ddpm_bundle: Path) -> None:
    assert speed.flops(genfast.load(str(ddpm_bundle), steps=3)) == {}


def test_what_suits_a_model(conv_bundle: Path, token_bundle: Path, ddpm_bundle: Path) -> None:
    suits = {}
    for name, path in {"conv": conv_bundle, "tokens": token_bundle, "ddpm": ddpm_bundle}.items():
        model = genfast.load(str(path))
        suits[name] = speed.steps(model), speed.batches(model)
    assert suits == {
        "conv": ([4], [1, 8, 64]),
        "tokens": ([4, 8, 16], [1]),
        "ddpm": ([4, 8], [1, 8, 64]),
    }
    assert speed.steps(genfast.load("fashion28")) == [1, 2, 4, 8]  # what is here of the catalogue's


def test_figures_agree_with_each_other(conv_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SIDE", 64)
    model = genfast.load(str(conv_bundle), device="cpu")
    needed = speed.flops(model)
    found = speed.measure(model, 3, needed)
    assert (found.steps, found.batch) == (4, 3)
    assert found.images_per_second == pytest.approx(1 / found.seconds_per_image)
    assert 0 < found.outside < 1
    assert found.share == pytest.approx(needed["float32"] / found.rates["float32"] / found.seconds_per_image)


def test_medians_leave_out_the_warm_up() -> None:
    calls = {"a": 0, "b": 0}

    def count(name: str) -> None:
        calls[name] += 1

    found = speed.medians({"a": lambda: count("a"), "b": lambda: count("b")}, 4)
    assert calls == {"a": 5, "b": 5} and all(seconds >= 0 for seconds in found.values())
