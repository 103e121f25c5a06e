"""Reading and checking `models.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from app.catalog.load import load_catalog
from app.errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

    from app.catalog.entries import Catalog

NULL = '[quick]\npipeline = "null"\n'


def load(folder: Path, text: str | bytes, *serve: str) -> Catalog:
    """The catalog of a file with that text; it serves the entry `quick` by default."""
    file = folder / "models.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_catalog(file, frozenset(serve or {"quick"}))


def test_null_models_are_served_only_when_named(tmp_path: Path) -> None:
    """By default every model is served except those of the `null` pipeline."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model_index.json").write_text("{}")
    file = tmp_path / "models.toml"
    file.write_text('[real]\npath = "real"\n' + NULL)
    assert list(load_catalog(file).models) == ["real"]
    assert list(load_catalog(file, frozenset({"quick", "real"})).models) == ["real", "quick"]
    assert load_catalog(file).default == "real"


def test_missing_keys_have_public_defaults(tmp_path: Path) -> None:
    """An entry may be nearly empty; clients see all its limits and defaults."""
    model = load(tmp_path, NULL + "[quick.limits]\nmax_steps = 70\n").models["quick"]
    assert model.limits.max_steps == 70
    assert model.public()["defaults"]["width"] == 512
    assert "path" not in model.public()


def test_the_revision_names_the_weights(tmp_path: Path) -> None:
    """The same files give the same revision, other contents another one."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")

    def revision() -> str:
        return load(tmp_path, '[real]\npath = "real"\n', "real").models["real"].revision

    first = revision()
    assert revision() == first
    (folder / "unet.safetensors").write_bytes(b"1")
    second = revision()
    (folder / "unet.safetensors").write_bytes(b"2")
    assert len({first, second, revision()}) == 3


def test_without_revisions_no_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without revisions no file is hashed, and wrong entries are still found."""
    folder = tmp_path / "real"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    file = tmp_path / "models.toml"
    file.write_text('[real]\npath = "real"\n')
    monkeypatch.setattr("hashlib.file_digest", None)
    with pytest.raises(TypeError):
        load_catalog(file)
    assert load_catalog(file, revised=False).models["real"].revision == ""
    file.write_text('[real]\npath = "elsewhere"\n')
    with pytest.raises(CatalogError, match="elsewhere"):
        load_catalog(file, revised=False)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[quick", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        ("", "has no model quick"),
        ("quick = 3", "must be a table"),
        (NULL + "colour = 1", "colour"),
        ('[quick]\npipeline = "onnx"', "pipeline"),
        ("[quick]", "path"),
        ('[quick]\npath = "missing"', "path"),
        ("[quick]\npath = 3", "path"),
        (NULL + 'delay_s = "long"', "delay_s"),
        (NULL + "delay_s = nan", "delay_s"),
        (NULL + "delay_s = -1", "delay_s"),
        (NULL + "description = 1", "description"),
        (NULL + 'schedulers = "ddim"', "schedulers"),
        (NULL + "schedulers = [1]", "schedulers"),
        (NULL + "defaults = 3", "defaults"),
        (NULL + "[quick.defaults]\ncolour = 1", "colour"),
        (NULL + '[quick.defaults]\nwidth = "64"', "width"),
        (NULL + "[quick.defaults]\nwidth = 64.5", "width"),
        (NULL + "[quick.limits]\nmax_steps = true", "max_steps"),
        (NULL + "[quick.limits]\nmax_width = 256\n[quick.defaults]\nwidth = 512", "width"),
        (NULL + "[quick.defaults]\nheight = 66", "height"),
        (NULL + "[quick.defaults]\nnum_inference_steps = 101", "num_inference_steps"),
        (NULL + '[quick.defaults]\nscheduler = "magic"', "scheduler"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(
    tmp_path: Path, text: str | bytes, wanted: str
) -> None:
    """Every problem is an error that names the file and the wrong key."""
    with pytest.raises(CatalogError, match=wanted) as caught:
        load(tmp_path, text)
    assert "models.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that does not exist is an error that names it."""
    with pytest.raises(CatalogError, match=r"cannot read .*nowhere"):
        load_catalog(tmp_path / "nowhere.toml")


def test_a_file_without_a_servable_model_is_refused(tmp_path: Path) -> None:
    """A registry without a model to serve is an error."""
    file = tmp_path / "models.toml"
    file.write_text(NULL)
    with pytest.raises(CatalogError, match="no model to serve"):
        load_catalog(file)


def test_an_entry_may_name_loras_controlnets_and_speed(tmp_path: Path) -> None:
    """Folders are relative to the file; clients see the names but not the speed settings."""
    for folder, holds in (("ink", "pytorch_lora_weights.safetensors"), ("edges", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / holds).write_text("{}")
    text = NULL + (
        '[quick.loras]\nink = "ink"\n[quick.controlnets]\nlines = "edges"\n'
        '[quick.speed]\ndtype = "bfloat16"\nchannels_last = true\n'
    )
    model = load(tmp_path, text).models["quick"]
    assert model.loras == {"ink": tmp_path / "ink"}
    assert (model.public()["loras"], model.public()["controlnets"]) == (["ink"], ["lines"])
    assert (model.speed.dtype, model.speed.channels_last, model.speed.compile) == (
        "bfloat16", True, "",
    )  # fmt: skip
    assert "speed" not in model.public()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[quick.loras]\nink = "nowhere"\n', "loras.ink"),
        ("[quick.loras]\nink = 3\n", "loras.ink"),
        ('[quick.controlnets]\nlines = "nowhere"\n', "controlnets.lines"),
        ('[quick.speed]\ndtype = "int3"\n', "dtype"),
        ("[quick.speed]\ncompile = 1\n", 'compile must be "blocks", "whole", true or false, not 1'),
        ('[quick.speed]\ncompile = "all"\n', "compile must be .*, not 'all'"),
    ],
)
def test_a_wrong_folder_or_speed_setting_is_refused(tmp_path: Path, text: str, wanted: str) -> None:
    """A folder without its required file and a wrong speed setting are errors that name the key."""
    with pytest.raises(CatalogError, match=wanted):
        load(tmp_path, NULL + text)


@pytest.mark.parametrize(
    ("value", "compiled"),
    [("true", "blocks"), ("false", ""), ('"blocks"', "blocks"), ('"whole"', "whole")],
)
def test_compile_may_be_a_boolean(tmp_path: Path, value: str, compiled: str) -> None:
    """`compile = true` means the blocks, `false` nothing."""
    text = NULL + f"[quick.speed]\ncompile = {value}\n"
    assert load(tmp_path, text).models["quick"].speed.compile == compiled


def test_every_problem_of_every_entry_is_listed(tmp_path: Path) -> None:
    """One error has a line for each problem, with the file, the entry and the key."""
    text = NULL + (
        'delay = 3\n[quick.defaults]\nwidth = 66\nheight = 5000\nscheduler = "magic"\n'
        '[quick.speed]\ndtyp = "float16"\ngraphs = 1\ncompile = "all"\n'
        '[other]\nschedulers = ["euler", "magic"]\n[other.limits]\nmax_steps = true\n'
        '[other.loras]\nink = "nowhere"\n'
    )
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, text, "quick", "other")
    file = tmp_path / "models.toml"
    assert str(caught.value).splitlines() == [
        (
            f"{file}, [quick]: defaults.width must be within the limits, from 64 to 1024 and a "
            "multiple of 8, not 66"
        ),
        (
            f"{file}, [quick]: defaults.height must be within the limits, from 64 to 1024 and a "
            "multiple of 8, not 5000"
        ),
        f"{file}, [quick]: defaults.scheduler must be one of the entry's schedulers",
        f'{file}, [quick]: speed.compile must be "blocks", "whole", true or false, not \'all\'',
        f"{file}, [quick]: speed.graphs must be true or false, not 1",
        f"{file}, [quick]: speed.dtyp is not a known key; did you mean dtype?",
        f"{file}, [quick]: delay is not a known key; did you mean delay_s?",
        f"{file}, [other]: path is missing: a folder in the diffusers format",
        (
            f"{file}, [other]: schedulers[1] must be 'ddim', 'dpmpp_2m', 'euler', 'euler_a', "
            "'flow_euler', 'heun', 'lcm', 'pndm' or 'unipc', not 'magic'"
        ),
        f"{file}, [other]: limits.max_steps must be a whole number, not True",
        f"{file}, [other]: loras.ink must be a folder with a pytorch_lora_weights.safetensors in it",
    ]


def test_a_key_that_resembles_none_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    """Without a similar key the message lists the keys of the table."""
    with pytest.raises(
        CatalogError, match=r"limits\.colour is not a known key; known are max_height"
    ):
        load(tmp_path, NULL + "[quick.limits]\ncolour = 1\n")


def test_a_whole_number_is_also_a_number(tmp_path: Path) -> None:
    """A number with a fraction may be written without its point."""
    text = NULL + "delay_s = 2\n[quick.defaults]\nguidance_scale = 3\n"
    model = load(tmp_path, text).models["quick"]
    assert (model.delay_s, model.defaults.guidance_scale) == (2.0, 3.0)
    assert isinstance(model.defaults.guidance_scale, float)


@pytest.mark.parametrize("value", ["true", "nan", "inf", "-inf", "-0.5", '"3"'])
def test_a_number_is_finite_and_no_boolean(tmp_path: Path, value: str) -> None:
    """Values other than finite numbers from 0 are errors that name section and key."""
    with pytest.raises(CatalogError, match=r"\[quick\]: defaults.guidance_scale must be"):
        load(tmp_path, NULL + f"[quick.defaults]\nguidance_scale = {value}\n")


def test_an_entry_that_is_not_served_is_not_checked(tmp_path: Path) -> None:
    """A wrong entry that is not served is no error."""
    assert list(load(tmp_path, NULL + '[other]\npath = "nowhere"\n').models) == ["quick"]


def test_an_old_key_is_read_with_one_warning_for_the_file(tmp_path: Path) -> None:
    """`prompt_memo_mb` still sets the size of the prompt cache, in every entry."""
    text = NULL + (
        "[quick.speed]\nprompt_memo_mb = 7\n"
        '[other]\npipeline = "null"\n[other.speed]\nprompt_memo_mb = 8\n'
    )
    with capture_logs() as lines:
        models = load(tmp_path, text, "quick", "other").models
    assert [model.speed.prompt_cache_mb for model in models.values()] == [7, 8]
    assert lines == [
        {
            "event": "setting_renamed",
            "log_level": "warning",
            "old": "speed.prompt_memo_mb",
            "new": "speed.prompt_cache_mb",
        }
    ]


def test_an_old_key_and_the_new_one_together_are_refused(tmp_path: Path) -> None:
    """An entry with both names of a key is an error."""
    text = NULL + "[quick.speed]\nprompt_memo_mb = 7\nprompt_cache_mb = 7\n"
    with pytest.raises(
        CatalogError, match=r"speed.prompt_memo_mb is the old name of prompt_cache_mb"
    ):
        load(tmp_path, text)


def test_a_wrong_value_of_an_old_key_is_named(tmp_path: Path) -> None:
    """An error in the value of an old key has the current name."""
    with pytest.raises(CatalogError, match=r"speed\.prompt_cache_mb must be at least 0, not -1"):
        load(tmp_path, NULL + "[quick.speed]\nprompt_memo_mb = -1\n")
