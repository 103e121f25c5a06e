"""Tuning: which settings are kept, and how they are written."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from app.catalog.entries import Speed
from app.catalog.load import load_catalog
from app.config.repository import REPOSITORY
from workers.tune.__main__ import main
from workers.tune.measure import Bench, switches
from workers.tune.record import recorded, write
from workers.tune.search import Measured, search, winner

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = Speed()


def test_a_setting_is_kept_if_it_is_faster_and_accurate() -> None:
    """A faster and accurate value is kept, and the next setting is tried on top of it."""
    measured: list[Speed] = []

    def measure(speed: Speed) -> Measured:
        measured.append(speed)
        seconds = 1.0
        if speed.dtype == "bfloat16":
            seconds = 0.5
        if speed.dtype == "float16":
            return Measured(0.1, 255, 90.0)
        if speed.compile:
            return Measured(error="no compiler")
        return Measured(seconds * (0.98 if speed.channels_last else 1.0), 3, 0.5)

    tried: dict[str, list[Any]] = {
        "dtype": ["bfloat16", "float16"],
        "channels_last": [True],
        "compile": ["blocks"],
    }
    rows = list(search(PLAIN, tried, measure, 2.0))
    assert [row.verdict for row in rows] == [
        "kept", "kept", "too inaccurate", "not faster", "failed"
    ]  # fmt: skip
    assert winner(rows).speed == replace(PLAIN, dtype="bfloat16")
    assert measured[-1] == replace(PLAIN, dtype="bfloat16", compile="blocks")


def test_the_fastest_value_of_a_setting_is_kept() -> None:
    """Of two faster values the fastest is kept; the present value is not measured again."""
    times = {"": 1.0, "slow": 0.9, "quick": 0.5}
    rows = list(
        search(
            PLAIN, {"attention": ["", "slow", "quick"]}, lambda s: Measured(times[s.attention]), 1
        )
    )
    assert [(row.switch, row.verdict) for row in rows] == [
        ("no changes", "kept"),
        ("attention = 'slow'", "not faster"),
        ("attention = 'quick'", "kept"),
    ]


def test_a_model_that_cannot_render_is_not_tuned() -> None:
    """The only row has the reason."""
    (row,) = search(PLAIN, {"compile": ["blocks"]}, lambda _: Measured(error="no weights"), 1)
    assert row.verdict == "failed"


BEFORE = """\
# What we serve.
[scenes]
path = "scenes"  # the small one
[scenes.speed]  # to be tuned
vae_tiling = true  # large pictures
dtype = "float16"

# The null model.
[null]
pipeline = "null"
"""


def test_the_settings_are_written_and_every_comment_stays() -> None:
    """Existing keys are changed, keys that differ from the defaults are added, all else stays."""
    best = Speed(channels_last=True, vae_tiling=True)
    after = recorded(BEFORE, "scenes", best, "measured on cpu")
    assert tomllib.loads(after) == tomllib.loads(BEFORE) | {
        "scenes": {
            "path": "scenes",
            "speed": {"vae_tiling": True, "dtype": "float32", "channels_last": True},
        }
    }
    for comment in ("# What we serve.", "# the small one", "# large pictures", "# The null model."):
        assert comment in after
    assert "# measured on cpu" in after
    assert recorded(after, "scenes", best, "measured on cpu") == after


def test_a_new_table_follows_its_own_model() -> None:
    """The table follows the model's last setting and precedes the next entry's comments."""
    before = '["sd-1.5"]\npath = "x"\n["sd-1.5".limits]\nmax_steps = 9\n\n# Null.\n[null]\npipeline = "null"\n'
    after = recorded(before, "sd-1.5", Speed(dtype="float16"), "measured")
    assert tomllib.loads(after)["sd-1.5"]["speed"] == {"dtype": "float16"}
    assert after == before.replace(
        "= 9\n", '= 9\n\n["sd-1.5".speed]  # measured\ndtype = "float16"\n'
    )


def test_an_entry_without_speed_gets_one(tmp_path: Path) -> None:
    """The shipped registry is written and loaded again; its comments and file mode stay."""
    file = tmp_path / "models.toml"
    shutil.copy(REPOSITORY / "models" / "models.toml", file)
    for folder in (REPOSITORY / "models").glob("scenes*"):
        (tmp_path / folder.name).symlink_to(folder)
    file.chmod(0o640)
    before = file.read_text()
    write(file, recorded(before, "scenes", Speed(channels_last=True), "measured on cpu"))
    assert load_catalog(file).models["scenes"].speed == Speed(channels_last=True)
    assert file.stat().st_mode & 0o777 == 0o640
    assert [line for line in before.splitlines() if line not in file.read_text()] == []


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped model, small defaults, and its own autoencoder as the decoder."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "scenes").symlink_to(REPOSITORY / "models" / "scenes")
    (folder / "models.toml").write_text(
        '[scenes]  # ours\npath = "scenes"\n[scenes.defaults]\nwidth = 64\nheight = 64\n'
        'num_inference_steps = 2\n[scenes.speed]\ndecoder = "scenes/vae"\n'
    )
    return folder


def test_variants_are_rendered_and_compared_with_the_plain_pictures(registry: Path) -> None:
    """Channels last and a decoder differ by rounding; an unknown attention backend is an error."""
    model = load_catalog(registry / "models.toml").models["scenes"]
    bench = Bench(model, registry, device="cpu", steps=2, rounds=1)
    assert "decoder" in switches(model, "cpu")
    assert switches(model, "cpu")["compile"] == ["blocks", "whole"]
    plain = bench.measure(PLAIN)
    assert (plain.error, plain.max_off) == ("", 0)
    assert plain.picture_s > 0
    for speed in (Speed(channels_last=True), Speed(decoder="scenes/vae")):
        measured = bench.measure(speed)
        assert measured.error == ""
        assert measured.max_off <= 3
    assert "nobody" in bench.measure(Speed(attention="nobody")).error


SKIPPED = ("--skip=compile", "--skip=attention", "--skip=dtype", "--skip=decoder")


def test_a_dry_run_prints_the_new_text(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table and the file's new text are printed, and the file does not change."""
    file = registry / "models.toml"
    before = file.read_text()
    monkeypatch.setenv("RENDERFARM_MODELS", str(file))
    result = CliRunner().invoke(main, ["scenes", "--dry-run", "--steps=1", "--rounds=1", *SKIPPED])
    assert result.exit_code == 0, result.output
    assert "channels_last = True" in result.output
    assert "is not changed" in result.output
    assert file.read_text() == before
    result = CliRunner().invoke(main, ["nobody"])
    assert result.exit_code != 0


def test_doctor_tunes_a_model(registry: Path) -> None:
    """The command measures and writes the entry; its comments stay, and it can be loaded again."""
    file = registry / "models.toml"
    environment = {"PYTHONPATH": str(REPOSITORY), "RENDERFARM_MODELS": str(file)}
    doctor = [sys.executable, str(REPOSITORY / "bin" / "renderfarm"), "doctor", "--tune", "scenes"]
    result = subprocess.run(
        [*doctor, "--steps", "1", "--skip", "prompt_cache_mb", *SKIPPED],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "# measured on cpu" in file.read_text()
    assert "# ours" in file.read_text()
    load_catalog(file)


def test_an_old_key_is_replaced_by_the_new_one() -> None:
    """A registry with `prompt_memo_mb` stays valid: both names together would be refused."""
    before = BEFORE.replace("vae_tiling = true", "prompt_memo_mb = 64")
    after = recorded(before, "scenes", Speed(prompt_cache_mb=64), "measured on cpu")
    assert tomllib.loads(after)["scenes"]["speed"] == {"dtype": "float32", "prompt_cache_mb": 64}
