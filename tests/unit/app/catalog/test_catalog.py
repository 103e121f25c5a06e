"""`models.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.catalog.load import load_catalog
from app.errors import CatalogError

if TYPE_CHECKING:
    from pathlib import Path

    from app.catalog.entries import Catalog

NULL = '[quick]\npipeline = "null"\n'


def load(folder: Path, text: str | bytes, *serve: str) -> Catalog:
    """The catalog of a file with that text; serves the `null` entry `quick` unless told otherwise."""
    file = folder / "models.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_catalog(file, frozenset(serve or {"quick"}))


def test_null_models_are_served_only_when_named(tmp_path: Path) -> None:
    """Without a choice every real model is served and no null one."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "model_index.json").write_text("{}")
    file = tmp_path / "models.toml"
    file.write_text('[real]\npath = "real"\n' + NULL)
    assert list(load_catalog(file).models) == ["real"]
    assert list(load_catalog(file, frozenset({"quick", "real"})).models) == ["real", "quick"]
    assert load_catalog(file).default == "real"


def test_what_is_left_out_has_a_default_and_is_public(tmp_path: Path) -> None:
    """An entry may be nearly empty; what clients see has every limit and default."""
    model = load(tmp_path, NULL + "[quick.limits]\nmax_steps = 70\n").models["quick"]
    assert model.limits.max_steps == 70
    assert model.public()["defaults"]["width"] == 512
    assert "path" not in model.public()


def test_the_revision_names_the_weights(tmp_path: Path) -> None:
    """The same files give the same revision, other contents another."""
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


def test_who_only_looks_reads_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without revisions no file is hashed; what is wrong with an entry is found all the same."""
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
def test_a_bad_file_is_refused_with_the_place(
    tmp_path: Path, text: str | bytes, wanted: str
) -> None:
    """Whatever is wrong in the file, the start stops with the file, and what is wrong, named."""
    with pytest.raises(CatalogError, match=wanted) as caught:
        load(tmp_path, text)
    assert "models.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path that leads nowhere is said so."""
    with pytest.raises(CatalogError, match=r"cannot read .*nowhere"):
        load_catalog(tmp_path / "nowhere.toml")


def test_a_file_without_a_servable_model_is_refused(tmp_path: Path) -> None:
    """A farm that would serve nothing does not start."""
    file = tmp_path / "models.toml"
    file.write_text(NULL)
    with pytest.raises(CatalogError, match="no model to serve"):
        load_catalog(file)


def test_an_entry_may_name_loras_controlnets_and_speed(tmp_path: Path) -> None:
    """Folders are relative to the file; clients see the names, and the speed is the farm's own."""
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
def test_adapters_that_are_not_there_stop_the_start(tmp_path: Path, text: str, wanted: str) -> None:
    """A folder without the file that it must hold, or a speed that is none, is named."""
    with pytest.raises(CatalogError, match=wanted):
        load(tmp_path, NULL + text)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("true", "blocks"), ("false", ""), ('"blocks"', "blocks"), ('"whole"', "whole")],
)
def test_how_much_is_compiled_can_be_said_by_a_yes(tmp_path: Path, said: str, meant: str) -> None:
    """Which means the blocks: the farm is up sooner."""
    text = NULL + f"[quick.speed]\ncompile = {said}\n"
    assert load(tmp_path, text).models["quick"].speed.compile == meant
