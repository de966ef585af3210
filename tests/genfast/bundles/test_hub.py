import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import genfast
from genfast.bundles import bundle, hub
from genfast.errors import AbsentError, ModelError, UsageError


def test_a_folder_is_found_as_itself(tiny_bundle: Path) -> None:
    assert hub.find(str(tiny_bundle)) == tiny_bundle


def test_a_name_is_found_in_the_cache(tiny_bundle: Path, nothing_shipped: Path) -> None:
    shutil.copytree(tiny_bundle, nothing_shipped / "fashion28")
    assert hub.find("fashion28") == hub.find("fashion28", 4) == nothing_shipped / "fashion28"
    assert not hub.is_shipped(hub.find("fashion28"))


def test_what_ships_wins_over_the_cache(
    tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "_SHIPPED", (tmp_path / "shipped",))
    for place in nothing_shipped, tmp_path / "shipped":
        shutil.copytree(tiny_bundle, place / "fashion28")
    assert hub.find("fashion28") == tmp_path / "shipped" / "fashion28"
    assert hub.is_shipped(hub.find("fashion28"))


def test_a_name_wins_over_a_folder_of_that_name(
    tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "fashion28")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="^fashion28 has no weights here; set GENFAST_MIRROR .*/fashion28$"):
        hub.find("fashion28")
    assert hub.find("./fashion28") == Path("fashion28")


def test_weights_that_are_not_published_are_found_once_they_are_here(token_bundle: Path, nothing_shipped: Path) -> None:
    with pytest.raises(AbsentError, match="ffhq1024's weights are not published: train them .*, or put .*/ffhq1024$"):
        hub.find("ffhq1024")
    shutil.copytree(token_bundle, nothing_shipped / "ffhq1024")
    assert hub.find("ffhq1024") == hub.find("ffhq1024", 16) == nothing_shipped / "ffhq1024"


def test_unknown_names_and_step_counts() -> None:
    with pytest.raises(ModelError, match="there is no bundle at"):
        hub.find("no/such/folder")
    with pytest.raises(UsageError, match="no weights for 9 steps"):
        hub.find("fashion28", 9)


def test_a_loss_picks_a_bundle() -> None:
    assert hub.find("fashion28", loss="relativistic").name == "fashion28-study"
    assert hub.find("fashion28").name == "fashion28"
    with pytest.raises(
        UsageError, match="no weights for 4 steps by hinge; weights exist for: 1, .*; non-saturating at "
    ):
        hub.find("fashion28", loss="hinge")


def test_what_is_whole_is_not_fetched_and_what_is_corrupt_is(server, tiny_bundle: Path, nothing_shipped: Path) -> None:
    source = server.publish(tiny_bundle, "fashion28")
    folder = hub.pull("fashion28")
    assert folder == nothing_shipped / "fashion28"
    server.asked.clear()
    assert hub.pull("fashion28") == folder and server.asked == []
    (folder / "step.onnx").write_bytes(b"")
    assert hub.pull("fashion28") == folder
    assert (folder / "step.onnx").read_bytes() == (source / "step.onnx").read_bytes()


def test_a_bundle_of_the_format_before_is_fetched_again(server, tiny_bundle: Path, nothing_shipped: Path) -> None:
    """As the message says that it wants to be."""
    source = server.publish(tiny_bundle, "fashion28")
    held = nothing_shipped / "fashion28"
    shutil.copytree(source, held)
    text = (held / "manifest.json").read_text()
    (held / "manifest.json").write_text(text.replace('"format": 2', '"format": 1'))
    assert (held / "manifest.json").read_text() != text
    with pytest.raises(ModelError, match="is of format 1, .*genfast pull"):
        bundle.load(hub.find("fashion28"))
    assert hub.pull("fashion28") == held and (held / "manifest.json").read_text() == text


def test_what_ships_is_not_fetched(server, tiny_bundle: Path) -> None:
    server.publish(tiny_bundle, "fashion28")
    assert hub.is_shipped(hub.pull("fashion28")) and server.asked == []


def test_without_a_mirror_nothing_can_be_pulled(nothing_shipped: Path) -> None:
    with pytest.raises(AbsentError, match="nothing to fetch fashion28 from; set GENFAST_MIRROR"):
        hub.pull("fashion28")


def test_weights_at_the_mirror_draw_themselves(
    server, token_bundle: Path, nothing_shipped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(token_bundle, "avatars1024")
    assert genfast.load("ffhq1024").name == "avatars1024"
    assert caplog.messages == [
        f"genfast: ffhq1024 is neither here nor at {server.url}; drawing with avatars1024 instead"
    ]
    server.publish(token_bundle, "ffhq1024")
    assert genfast.load("ffhq1024").name == "ffhq1024"
    assert len(caplog.messages) == 1


def test_the_cache_is_listed_verified_and_pruned(server, tiny_bundle: Path, nothing_shipped: Path) -> None:
    assert hub.cached() == hub.prune() == []
    for name in "good", "rotten", "bare":
        shutil.copytree(tiny_bundle, nothing_shipped / name)
    (nothing_shipped / "rotten" / "step.onnx").write_bytes(b"")
    (nothing_shipped / "bare" / "manifest.json").unlink()
    for name in ".fashion28.partial", ".busy.partial":
        (nothing_shipped / name).mkdir()
    states = {
        "bare": "corrupt",
        "busy": "unfinished",
        "fashion28": "unfinished",
        "good": "cached",
        "rotten": "cached",
    }
    assert {each.name: each.state for each in hub.cached()} == states
    states |= {"good": "verified", "rotten": "corrupt"}
    assert {each.name: each.state for each in hub.cached(verify=True)} == states
    with FileLock(nothing_shipped / ".busy.lock"):
        removed = hub.prune()
    assert {each.name: each.state for each in removed} == dict.fromkeys(("bare", "fashion28", "rotten"), "removed")
    assert [each.name for each in hub.cached()] == ["busy", "good"]
    assert hub.cached()[1].size == sum(path.stat().st_size for path in tiny_bundle.iterdir())


def test_a_bundle_that_the_disk_cannot_hold_is_not_begun(
    server, conv_bundle: Path, nothing_shipped: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.publish(conv_bundle, "fashion28")
    monkeypatch.setenv("GENFAST_CACHE", str(small_disk))
    with pytest.raises(ModelError, match=r"^fashion28 takes 2\.5 MB more, and .* has 0\.0 MB free; make room there"):
        hub.find("fashion28")
    assert server.asked == ["index.json", "fashion28/manifest.json"]


@pytest.mark.parametrize("file", ["manifest.json", "step.onnx"])
def test_a_disk_that_fills_up_leaves_nothing(
    server, tiny_bundle: Path, nothing_shipped: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def fill(answer: Any, content: bytes) -> None:
        with suppress(OSError), (small_disk / "full").open("wb", buffering=0) as other:
            while True:
                other.write(bytes(512))
        answer.give(content)

    server.publish(tiny_bundle, "fashion28")
    server.faults[file] = iter([fill])
    monkeypatch.setenv("GENFAST_CACHE", str(small_disk))
    with pytest.raises(ModelError, match=f"^cannot write into {small_disk}/bundles: No space left on device"):
        hub.find("fashion28")
    assert hub.locate("fashion28") is None
    (small_disk / "full").unlink()
    bundle.load(hub.find("fashion28"))


def test_a_link_in_the_cache_is_removed_and_what_it_names_is_not(
    server, tiny_bundle: Path, nothing_shipped: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(tiny_bundle, tmp_path / "elsewhere")
    (elsewhere / "step.onnx").unlink()
    nothing_shipped.mkdir(parents=True, exist_ok=True)
    (nothing_shipped / "fashion28").symlink_to(elsewhere)
    assert [each.state for each in hub.prune()] == ["removed"]
    assert elsewhere.is_dir() and not (nothing_shipped / "fashion28").is_symlink()


def test_the_cache_may_be_named_from_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENFAST_CACHE", "~/weights")
    assert hub.bundles() == tmp_path / "weights" / "bundles"
