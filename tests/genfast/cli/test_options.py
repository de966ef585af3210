from pathlib import Path

import pytest
import typer

from genfast.cli import app
from genfast.cli.options import said
from genfast.samplers.options import RandomOrderOptions


@pytest.mark.parametrize("command", ["sample", "fid"])
def test_the_device_comes_from_the_environment_unless_it_is_given(cli, tiny_bundle: Path, command: str) -> None:
    environment = {"GENFAST_DEVICE": "toaster"}
    done = cli(command, "--model", tiny_bundle, env=environment)
    assert done.returncode == 2 and "unknown device 'toaster'" in done.stderr
    done = cli(command, "--model", tiny_bundle, "--device", "fridge", env=environment)
    assert done.returncode == 2 and "unknown device 'fridge'" in done.stderr
    assert cli("sample", "--model", tiny_bundle, "-n", 1, "--device", "cpu", env=environment).returncode == 0


@pytest.mark.parametrize(
    ("command", "line", "expected"),
    [
        ("sample", "-n 4", (None, None, {"n": 4})),
        ("sample", "--ray -n 4", ("local", None, {"n": 4})),
        ("sample", "-n 4 --ray", ("local", None, {"n": 4})),
        ("sample", "--ray auto", ("auto", None, {})),
        ("sample", "--ray 10.0.0.1:6379 -n 4", ("10.0.0.1:6379", None, {"n": 4})),
        ("sample", "--ray=ray://head:10001", ("ray://head:10001", None, {})),
        ("inpaint", "--ray photos masks", ("local", None, {"image": Path("photos"), "mask": Path("masks")})),
        ("inpaint", "photos --shard masks", (None, "auto", {"image": Path("photos"), "mask": Path("masks")})),
        ("sample", "--shard --seed 3", (None, "auto", {"seed": 3})),
        ("sample", "--shard auto/8", (None, "auto/8", {})),
        ("fid", "photos --shard 3/16 --out parts", (None, "3/16", {"a": Path("photos"), "out": Path("parts")})),
    ],
)
def test_options_whose_value_may_be_left_out(command: str, line: str, expected: tuple[object, object, dict]) -> None:
    context = typer.main.get_command(app).commands[command].make_context(command, line.split())
    found = dict(context.params)
    assert (found["ray"], found["share"], {name: found[name] for name in expected[2]}) == expected


def test_what_is_given_as_it_is_by_default_is_not_told() -> None:
    default = RandomOrderOptions(steps=5, temperature=0.4)
    given = {"temperature": 0.4, "refine": 0.5}
    assert said(given, default) == {"refine": 0.5} and said(given, None) == given
    assert said(given | {"sampler": "random-order"}, default) == {"refine": 0.5}
    other = given | {"sampler": "maskgit"}  # whose defaults are others
    assert said(other, default) == other
