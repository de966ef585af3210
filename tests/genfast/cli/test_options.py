from pathlib import Path

import pytest


@pytest.mark.parametrize("command", ["sample", "fid"])
def test_the_device_comes_from_the_environment_unless_it_is_given(cli, tiny_bundle: Path, command: str) -> None:
    environment = {"GENFAST_DEVICE": "toaster"}
    done = cli(command, "--model", tiny_bundle, env=environment)
    assert done.returncode == 2 and "unknown device 'toaster'" in done.stderr
    done = cli(command, "--model", tiny_bundle, "--device", "fridge", env=environment)
    assert done.returncode == 2 and "unknown device 'fridge'" in done.stderr
    assert cli("sample", "--model", tiny_bundle, "-n", 1, "--device", "cpu", env=environment).returncode == 0
