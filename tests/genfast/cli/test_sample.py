import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import genfast
from genfast.images import folder, io, params, sheets
from genfast.samplers.options import MaskGITOptions, RandomOrderOptions, SundaeOptions, TokenOptions
from tests.genfast.cli.conftest import Run
from tests.genfast.cli.test_interruptions import start


def test_images_are_written_and_their_paths_printed(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    done = cli("sample", "--model", tiny_bundle, "-n", 3, "--seed", 7, "--start", 5, "--out", out)
    names = ["tiny-7-5.png", "tiny-7-6.png", "tiny-7-7.png", "tiny-7-grid-5-7.png"]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == names
    expected = genfast.load(str(tiny_bundle)).sample(3, seed=7, start=5)
    assert np.array_equal(folder.read_all([out / name for name in names[:3]]), expected)
    assert np.array_equal(io.read(out / names[3]), sheets.contact_sheet(expected))


def test_without_options_paths_are_relative_and_one_image_needs_no_sheet(cli, tiny_bundle: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 1)
    assert done.stdout == "tiny-0-0.png\n"
    done = cli("sample", "--model", tiny_bundle, "-n", 2, "--start", 1, "--no-grid")
    assert done.stdout == "tiny-0-1.png\ntiny-0-2.png\n"


@pytest.mark.parametrize("format", ["webp", "jpeg"])
def test_another_format(cli, conv_bundle: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    run = ("sample", "--model", conv_bundle, "-n", 2, "--history", "--format", format, "--out", out)
    done = cli(*run, check=True)
    made = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {Path(line).name for line in done.stdout.splitlines()} == made.keys()
    assert sorted(name.partition("-0-")[2] for name in made) == sorted(
        f"{i}{part}" for i in (0, 1) for part in ("-history.png", f"-strip.{format}", f".{format}")
    ) + [f"grid-0-1.{format}"]
    drawn = genfast.load(str(conv_bundle)).sample(2)
    written = folder.read_all([out / f"conv-0-{i}.{format}" for i in (0, 1)])
    assert np.abs(written.astype(int) - drawn).mean() < (0.1 if format == "webp" else 5)

    card = json.loads(cli("info", out / f"conv-0-1.{format}", "--json").stdout)
    assert card["command"].endswith(f" --format {format}") and card["options"]["format"] == format
    cli(*run, "--overwrite", check=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == made


def test_json(cli, tiny_bundle: Path) -> None:
    done = cli("sample", "--model", tiny_bundle, "-n", 2, "--json")
    assert json.loads(done.stdout) == {
        "schema": 2,
        "model": "tiny",
        "images": [{"path": "tiny-0-0.png", "index": 0}, {"path": "tiny-0-1.png", "index": 1}],
        "grid": "tiny-0-grid-0-1.png",
    }
    assert json.loads(cli("sample", "--model", tiny_bundle, "-n", 1, "--start", 9, "--json").stdout)["grid"] is None


def test_a_seed_gives_the_same_bytes_whatever_the_batch_and_the_threads(cli, conv_bundle: Path, tmp_path: Path) -> None:
    contents = []
    for batch, threads in (64, 1), (1, 2), (3, 2), (64, 3):
        out = tmp_path / f"{batch}-{threads}"
        cli(
            "sample", "--model", conv_bundle, "-n", 66, "--batch", batch, "--threads", threads, "--out", out, check=True
        )
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert len(contents[0]) == 67
    assert all(other == contents[0] for other in contents)


def test_existing_files_stop_the_run_before_anything_is_drawn(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny-0-1.png").write_bytes(b"mine")
    done = cli("sample", "--model", tiny_bundle, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"genfast: error: {tmp_path}/tiny-0-1.png exists (files in the way: 1); give --overwrite"
    )
    assert not list(tmp_path.glob("*grid*")) and (tmp_path / "tiny-0-1.png").read_bytes() == b"mine"


def test_overwrite(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny-0-1.png").write_bytes(b"mine")
    cli("sample", "--model", tiny_bundle, "--out", tmp_path, "--overwrite", check=True)
    expected = genfast.load(str(tiny_bundle)).sample(1, start=1)[0]
    assert np.array_equal(io.read(tmp_path / "tiny-0-1.png"), expected)


def test_skip_existing_fills_the_gaps(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", tiny_bundle, "-n", 4, "--out", tmp_path)
    cli(*run, check=True)
    complete = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    kept = tmp_path / "tiny-0-2.png"
    for path in tmp_path.glob("*.png"):
        if path != kept:
            path.unlink()
    before = kept.stat().st_mtime_ns
    done = cli(*run, "--skip-existing", check=True)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == complete
    assert kept.stat().st_mtime_ns == before
    assert len(done.stdout.splitlines()) == 5
    cli(*run, "--skip-existing", check=True)  # nothing left to draw


def test_models_of_tokens_take_turns_at_classes(cli, token_bundle: Path, tmp_path: Path) -> None:
    done = cli("sample", "--model", token_bundle, "-n", 4, "--out", tmp_path, "--steps", 3, "--json", check=True)
    assert json.loads(done.stdout) == {
        "schema": 2,
        "model": "squares",
        "images": [
            {"path": f"{tmp_path}/squares-0-{i}.png", "index": i, "class": name}
            for i, name in enumerate(["red", "light blue", "green", "red"])
        ],
        "grid": f"{tmp_path}/squares-0-grid-0-3.png",
    }
    expected = genfast.load(str(token_bundle), steps=3).sample(4)
    assert np.array_equal(folder.read_all([tmp_path / f"squares-0-{i}.png" for i in range(4)]), expected)


def test_a_diffusion_model_draws_the_class_that_is_asked_for(cli, shaded_bundle: Path, tmp_path: Path) -> None:
    done = cli("sample", "--model", shaded_bundle, "-n", 1, "--class", "light", "--out", tmp_path, "--json", check=True)
    (drawn,) = json.loads(done.stdout)["images"]
    assert drawn["class"] == "light" and "--class light" in cli("info", drawn["path"], check=True).stdout
    assert np.array_equal(
        folder.read_all([Path(drawn["path"])])[0], genfast.load(str(shaded_bundle)).sample(1, label="light")[0]
    )


def test_options_of_sampling_are_obeyed(cli, token_bundle: Path, tmp_path: Path) -> None:
    options = "--class green --sampler sundae --temperature 2 --temperature-end 1.5 --redraw-ratio 0.4"
    more = "--redraw-ratio-end 0.9 --min-steps 2 --guidance 1.5 --steps 9 --start 3 -n 1"
    done = cli("sample", "--model", token_bundle, "--out", tmp_path, *options.split(), *more.split(), "--json")
    assert [image["class"] for image in json.loads(done.stdout)["images"]] == ["green"]
    expected = genfast.load(str(token_bundle)).sample(
        1,
        start=3,
        label="green",
        options=SundaeOptions(
            steps=9,
            temperature=2.0,
            temperature_end=1.5,
            redraw_ratio=0.4,
            redraw_ratio_end=0.9,
            min_steps=2,
            guidance=1.5,
        ),
    )
    assert np.array_equal(io.read(tmp_path / "squares-0-3.png"), expected[0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--power 3 --refine 0.5", MaskGITOptions(steps=7, temperature_end=0.5, power=3.0, refine=0.5)),
        (
            "--sampler random-order --power 1.5 --temperature 2",
            RandomOrderOptions(steps=7, temperature=2.0, temperature_end=0.5, power=1.5),
        ),
        ("--sampler sundae --redraw-ratio 0.9", SundaeOptions(steps=7, temperature_end=0.5, redraw_ratio=0.9)),
        ("--choice-temperature 4", MaskGITOptions(steps=7, temperature_end=0.5, choice_temperature=4.0)),
    ],
)
def test_what_is_not_given_is_as_the_card_says(
    run: Run, token_bundle: Path, tmp_path: Path, options: str, expected: TokenOptions
) -> None:
    assert run(f"sample --model {token_bundle} -n 5 --no-grid --out {tmp_path} {options}")[0] == 0
    drawn = genfast.load(str(token_bundle)).sample(5, options=expected)
    assert np.array_equal(folder.read_all([tmp_path / f"squares-0-{i}.png" for i in range(5)]), drawn)


@pytest.mark.parametrize("name", ["token_bundle", "tiny_bundle"])
def test_history(cli, name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    model = genfast.load(str(folder))
    stem = f"{model.name}-0-2"
    run = ("sample", "--model", folder, "-n", 2, "--start", 2, "--history", "--out", tmp_path)
    done = cli(*run, "--json", check=True)
    listed = json.loads(done.stdout)["images"][0]
    assert [listed[key] for key in ("path", "history", "strip")] == [
        str(tmp_path / f"{stem}{part}.png") for part in ("", "-history", "-strip")
    ]
    frames = list(model.history(2))
    assert np.array_equal(io.read(tmp_path / f"{stem}.png"), model.sample(1, start=2)[0])
    assert np.array_equal(io.read(tmp_path / f"{stem}-strip.png"), sheets.strip(frames))
    with Image.open(tmp_path / f"{stem}-history.png") as png:
        assert 1 < png.n_frames <= len(frames) + 1  # frames that are equal are merged

    refused = cli(*run)
    assert refused.returncode == 2 and "(files in the way: 7)" in refused.stderr
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    (tmp_path / f"{stem}-strip.png").unlink()
    paths = cli(*run, "--skip-existing", check=True).stdout.splitlines()
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == before
    assert sorted(paths) == sorted(map(str, tmp_path.glob("*.png")))


def test_a_contact_sheet_of_large_images_stays_readable(cli, tiny_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", tiny_bundle, "-n", 20, "--out", tmp_path)
    cli(*run, "--no-grid", check=True)
    for i in range(20):
        path = tmp_path / f"tiny-0-{i}.png"
        io.write(path, np.full((1000, 1000, 3), 10 * i, np.uint8), params.read_params(path).comment())
    cli(*run, "--skip-existing", check=True)
    sheet = io.read(tmp_path / "tiny-0-grid-0-19.png")
    assert sheet.shape == (4 * 334, 5 * 334, 3) and sheet[-1, -1].tolist() == [190] * 3


def test_a_stand_in(cli, token_bundle: Path, tmp_path: Path) -> None:
    environment = {"GENFAST_CACHE": str(tmp_path)}
    shutil.copytree(token_bundle, tmp_path / "bundles" / "avatars1024")  # what ships wins, from when it does
    run = ("sample", "--model", "ffhq1024", "-n", 1, "--steps", 1, "--out", tmp_path, "--json")
    done = cli(*run, env=environment, check=True)
    (line,) = done.stderr.splitlines()
    assert line.startswith("genfast: ffhq1024's weights are not published") and "avatars1024 instead" in line
    assert json.loads(done.stdout)["model"] == "avatars1024"
    assert params.read_params(tmp_path / "avatars1024-0-0.png").model == "avatars1024"

    for refused in cli(*run, "--no-stand-in", env=environment), cli("fid", "--model", "ffhq1024", env=environment):
        assert refused.returncode == 4
        assert refused.stderr.startswith("genfast: error: ffhq1024's weights are not published")

    shutil.copytree(token_bundle, tmp_path / "bundles" / "ffhq1024")
    done = cli(*run, "--no-stand-in", env=environment, check=True)
    assert done.stderr == "" and json.loads(done.stdout)["model"] == "ffhq1024"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_progress_bar_on_stderr_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "genfast", "sample", "--model", tiny_bundle, "-n", "2", "--out", tmp_path]
    environment = {**os.environ, "PYTHONPATH": str(Path(genfast.__file__).parents[1]), "TERM": "xterm"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    assert "drawing" in os.read(ours, 10_000).decode()
    os.close(ours)
    assert len(done.stdout.splitlines()) == 3 and "drawing" not in done.stdout


def test_the_loss_is_said_in_the_image(cli, tmp_path: Path) -> None:
    done = cli("sample", "--loss", "pearson", "-n", 1, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    plain = cli("sample", "-n", 1, "--out", tmp_path / "plain")
    one, other = (io.read(Path(run.stdout.strip())) for run in (done, plain))
    assert not np.array_equal(one, other)
    card = json.loads(cli("info", done.stdout.strip(), "--json").stdout)
    assert card["options"] == {"loss": "pearson"}
    assert card["command"].endswith(" --loss pearson")
    bad = cli("sample", "--loss", "hellinger", "--steps", 77)
    assert (bad.returncode, bad.stdout) == (2, "") and "no weights for 77 steps by hellinger" in bad.stderr


def test_a_ddpm_in_a_few_steps(cli, ddpm_bundle: Path, tmp_path: Path) -> None:
    done = cli("sample", "--model", ddpm_bundle, "--steps", 3, "-n", 2, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    path = json.loads(done.stdout)["images"][1]["path"]
    assert "--steps 3 " in json.loads(cli("info", path, "--json").stdout)["command"]
    bad = cli("sample", "--model", ddpm_bundle, "--steps", 9)
    assert bad.returncode == 2 and "takes 1 to 8 steps, not 9" in bad.stderr


@pytest.mark.slow
def test_the_shipped_faces_are_drawn_and_stand_in_for_photographs(cli, tmp_path: Path) -> None:
    for model in ("avatars1024", "ffhq1024"):
        done = cli("sample", "-n", 1, "--steps", 2, "--json", "--model", model, "--out", tmp_path / model)
        drawn = json.loads(done.stdout)
        assert (done.returncode, drawn["model"]) == (0, "avatars1024")
        with Image.open(drawn["images"][0]["path"]) as image:
            assert image.size == (1024, 1024)
        assert ("ffhq1024" in done.stderr) == (model == "ffhq1024") and done.stderr.count("\n") <= 1
    refused = cli("sample", "-n", 1, "--model", "ffhq1024", "--no-stand-in")
    assert refused.returncode == 4 and refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_what_is_kept_is_what_was_asked_for(cli, token_bundle: Path, tmp_path: Path) -> None:
    run = ("sample", "--model", token_bundle, "--steps", 3, "--out", tmp_path, "-n")
    cli(*run, 2, "--class", "red", check=True)
    (tmp_path / "squares-0-2.png").touch()
    broken = cli(*run, 3, "--class", "red", "--skip-existing")
    assert broken.returncode == 2 and "squares-0-2.png is no image" in broken.stderr
    assert "and so is not kept; give --overwrite" in broken.stderr
    (tmp_path / "squares-0-2.png").unlink()
    refused = cli(*run, 3, "--class", "green", "--skip-existing")
    assert refused.returncode == 2 and re.search(r"squares-0-[01]\.png was drawn otherwise", refused.stderr)
    cli(*run, 3, "--class", "red", "--skip-existing", check=True)
    shipped = ("sample", "--out", tmp_path, "-n", 2, "--no-grid")
    cli(*shipped, check=True)
    other = cli(*shipped, "--loss", "pearson", "--skip-existing")
    assert other.returncode == 2 and re.search(r"-[01]\.png was drawn otherwise", other.stderr)


def test_paths_are_printed_as_images_are_done(conv_bundle: Path, tmp_path: Path) -> None:
    """A reader learns of an image while later ones are still drawn, and of those that were there in their order."""
    run = ["sample", "--model", conv_bundle, "-n", 10**6, "--batch", 2, "--out", tmp_path]
    with start(*run) as process:
        assert process.stdout is not None
        for i in range(6):
            path = Path(process.stdout.readline().decode().rstrip("\n"))
            assert path == tmp_path / f"conv-0-{i}.png" and io.read(path).shape == (28, 28, 1)
        process.kill()
    for i in 0, 3, 4:
        (tmp_path / f"conv-0-{i}.png").unlink()
    with start(*run, "--skip-existing") as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(8)]
        process.kill()
    assert lines == [f"{tmp_path}/conv-0-{i}.png\n" for i in range(8)]
