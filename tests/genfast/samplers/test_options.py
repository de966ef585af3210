import math
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter, ValidationError

from genfast.errors import UsageError
from genfast.samplers.options import (
    SAMPLERS,
    MaskGITOptions,
    Options,
    RandomOrderOptions,
    RePaintOptions,
    SundaeOptions,
    TokenOptions,
    flag,
)
from genfast.samplers.tokens import AnyTokenOptions

KINDS = (MaskGITOptions, RandomOrderOptions, SundaeOptions, RePaintOptions)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (MaskGITOptions, "steps", 0),
        (MaskGITOptions, "steps", -1),
        (SundaeOptions, "steps", 1001),
        (MaskGITOptions, "temperature", 0.0),
        (RandomOrderOptions, "temperature_end", -1.0),
        (SundaeOptions, "temperature", math.nan),
        (SundaeOptions, "temperature", math.inf),
        (SundaeOptions, "redraw_ratio", 0.0),
        (SundaeOptions, "redraw_ratio_end", 1.01),
        (SundaeOptions, "redraw_ratio", math.nan),
        (SundaeOptions, "min_steps", -1),
        (MaskGITOptions, "guidance", -0.1),
        (RandomOrderOptions, "guidance", math.inf),
        (RandomOrderOptions, "power", 0.9),
        (MaskGITOptions, "power", math.nan),
        (MaskGITOptions, "choice_temperature", -1.0),
        (MaskGITOptions, "refine", 1.0),
        (RePaintOptions, "resample", 0),
        (RePaintOptions, "resample", 1001),
        (MaskGITOptions, "sampler", "raster"),
        (MaskGITOptions, "sampler", "sundae"),
    ],
)
def test_values_that_make_no_sense_are_refused(kind: type[Options], field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{field.replace('_', '-')} must "):
        kind(**{field: value})


def test_a_value_is_refused_by_a_line_that_names_the_flag_and_its_bounds() -> None:
    for refused in (
        lambda: MaskGITOptions(choice_temperature=-1.0),
        lambda: MaskGITOptions().adjusted({"choice_temperature": -1.0}),
        lambda: replace(MaskGITOptions(), choice_temperature=-1.0),
    ):
        with pytest.raises(UsageError, match=r"^choice-temperature must lie in 0 \.\. 100, not -1\.0$"):
            refused()


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_says_what_it_is_and_takes_its_bounds(kind: type[Options]) -> None:
    settings = kind.settings()
    assert {each.name for each in settings} == {each.name for each in fields(kind)} - {"sampler"}
    for each in settings:
        low, high = each.metadata["low"], each.metadata["high"]
        assert low <= each.default <= high and each.metadata["help"].endswith(".")
        for bound in low, high:
            assert getattr(kind().adjusted({each.name: bound}), each.name) == bound
        for beyond in low - 0.001, high + 0.001, math.nan:
            with pytest.raises(UsageError, match=f"^{flag(each.name)} must lie in "):
                kind().adjusted({each.name: beyond})


def test_samplers_are_known_by_name() -> None:
    assert list(SAMPLERS) == ["maskgit", "random-order", "sundae"]
    for name, kind in SAMPLERS.items():
        assert kind().sampler == name and issubclass(kind, TokenOptions)
    assert RePaintOptions().sampler == "repaint" and not issubclass(RePaintOptions, TokenOptions)


def test_options_do_not_change_and_take_no_other_fields() -> None:
    with pytest.raises(FrozenInstanceError):
        MaskGITOptions().steps = 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'redraw_ratio'"):
        MaskGITOptions(redraw_ratio=0.5)


def test_adjusting_keeps_the_rest_and_names_what_is_no_setting() -> None:
    options = MaskGITOptions(steps=7, power=3.0)
    assert options.adjusted({"refine": 0.4}) == MaskGITOptions(steps=7, power=3.0, refine=0.4)
    assert options.adjusted({}) == options
    for given, named in (
        ({"redraw_ratio": 0.5}, "redraw-ratio"),
        ({"steps": 3, "resample": 2, "min_steps": 4}, "min-steps, resample"),
        ({"sampler": 1}, "sampler"),
    ):
        with pytest.raises(UsageError, match=f"^sampler maskgit takes no {named}$"):
            options.adjusted(given)


def test_switching_keeps_what_both_samplers_take() -> None:
    options = MaskGITOptions(steps=7, temperature=0.5, guidance=2.0, power=3.0, refine=0.4, choice_temperature=1.0)
    common = {"steps": 7, "temperature": 0.5, "guidance": 2.0}
    assert options.switched(RandomOrderOptions) == RandomOrderOptions(**common, power=3.0, refine=0.4)
    assert options.switched(SundaeOptions) == SundaeOptions(**common)
    assert options.switched(MaskGITOptions) == options
    back = SundaeOptions(redraw_ratio=0.1, min_steps=3).switched(MaskGITOptions)
    assert back == MaskGITOptions() and back.sampler == "maskgit"


@pytest.mark.parametrize("refine", [0.0, 0.25, 0.4, 0.9])
def test_the_schedule_of_masks_rises_to_all_tokens_and_stays(refine: float) -> None:
    options = MaskGITOptions(steps=20, refine=refine, power=3.0)
    shares = [options.known_share(step) for step in range(1, 21)]
    rising = round(20 * (1 - refine))
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert shares[:rising] == pytest.approx([(step / rising) ** 3 for step in range(1, rising + 1)])
    assert shares[rising:] == [1.0] * (20 - rising)


def test_a_document_holds_the_options_of_one_sampler() -> None:
    """As a manifest and a recipe do: by the sampler's name, and strictly."""
    read = TypeAdapter(AnyTokenOptions).validate_python
    assert read({"sampler": "maskgit", "steps": 4}) == MaskGITOptions(steps=4)
    assert read({"sampler": "random-order"}) == RandomOrderOptions()
    for given, message in (
        ({"steps": 4}, "Unable to extract tag using discriminator 'sampler'"),
        ({"sampler": "raster"}, "does not match any of the expected tags"),
        ({"sampler": "maskgit", "redraw_ratio": 0.5}, "Unexpected keyword argument"),
        ({"sampler": "maskgit", "steps": 2.5}, "valid integer"),
        ({"sampler": "sundae", "steps": 0}, "steps must lie in 1 .. 1000, not 0"),
    ):
        with pytest.raises(ValidationError, match=message):
            read(given)


def test_types_are_those_of_the_command_line() -> None:
    for kind in KINDS:
        hints = get_type_hints(kind)
        assert {hints[each.name] for each in kind.settings()} <= {int, float}
        assert all(isinstance(each.default, hints[each.name]) for each in kind.settings())
