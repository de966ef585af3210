import shutil
from pathlib import Path

import pytest

from genfast import hub
from genfast.errors import AbsentError, ModelError, UsageError


def test_a_folder_is_found_as_itself(tiny_bundle: Path) -> None:
    assert hub.find(str(tiny_bundle)) == tiny_bundle


def test_a_name_is_found_in_the_cache(tiny_bundle: Path, nothing_shipped: Path) -> None:
    shutil.copytree(tiny_bundle, nothing_shipped / "fashion28-t4")
    assert hub.find("fashion28") == hub.find("fashion28", 4) == nothing_shipped / "fashion28-t4"
    assert not hub.is_shipped(hub.find("fashion28"))


def test_what_ships_wins_over_the_cache(
    tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hub, "_SHIPPED", (tmp_path / "shipped",))
    for place in nothing_shipped, tmp_path / "shipped":
        shutil.copytree(tiny_bundle, place / "fashion28-t4")
    assert hub.find("fashion28") == tmp_path / "shipped" / "fashion28-t4"
    assert hub.is_shipped(hub.find("fashion28"))


def test_a_name_wins_over_a_folder_of_that_name(
    tiny_bundle: Path, nothing_shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "fashion28")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="fashion28 has no weights here; set GENFAST_MIRROR .* into .*bundles/fashion28-t4$"):
        hub.find("fashion28")
    assert hub.find("./fashion28") == Path("fashion28")


def test_weights_that_are_not_published_are_found_once_they_are_here(token_bundle: Path, nothing_shipped: Path) -> None:
    with pytest.raises(AbsentError, match="ffhq1024's weights are not published: train them .*, or put .*/ffhq1024$"):
        hub.find("ffhq1024")
    shutil.copytree(token_bundle, nothing_shipped / "ffhq1024")
    assert hub.find("ffhq1024") == hub.find("ffhq1024", 16) == nothing_shipped / "ffhq1024"


def test_unknown_names_and_step_counts() -> None:
    with pytest.raises(ModelError, match="unknown model"):
        hub.find("no/such/folder")
    with pytest.raises(UsageError, match="no weights for 3 steps"):
        hub.find("fashion28", 3)


def test_a_loss_is_for_models_of_the_catalogue(tiny_bundle: Path) -> None:
    assert hub.find("fashion28", loss="relativistic") == hub.find("fashion28")
    with pytest.raises(UsageError, match="no weights for 4 steps by hinge; weights exist for: relativistic at "):
        hub.find("fashion28", loss="hinge")
    with pytest.raises(UsageError, match="tiny holds one set of weights; a loss picks among those of a model"):
        hub.find(str(tiny_bundle), loss="relativistic")
