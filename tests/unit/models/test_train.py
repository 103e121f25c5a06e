"""The training program runs from nothing to a folder that stock diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from PIL import Image

from models.scenes import denoiser
from models.scenes.evaluate import Setting, load, sample
from models.scenes.export import export_controlnet
from models.scenes.parts import Parts
from models.scenes.variants import TurboCourse, build_edges
from tests.unit.models.program import run

if TYPE_CHECKING:
    import pytest

MOTIF_WORDS = ("house", "tree", "boat", "face", "sail", "smil", "sad")


def test_what_it_writes_is_a_stock_pipeline(made: Path) -> None:
    """The folder loads in fp32 and draws a picture of 128 x 128."""
    assert sample(load(made / "model"), ["a red circle"], Setting(steps=2)).shape[1:] == (
        128,
        128,
        3,
    )


def test_a_second_run_has_nothing_left_to_do(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Started again on finished checkpoints it only exports, to the same bytes."""
    weights = made / "model" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    run(made, "--out", str(made / "model"))
    assert weights.read_bytes() == before
    assert "written to" in capsys.readouterr().out


def test_a_shipped_model_can_be_taught_further(made: Path, tmp_path: Path) -> None:
    """`--start` goes on from an exported folder and leaves its words alone."""
    run(tmp_path, "--start", str(made / "model"), "--out", str(tmp_path / "model"))
    words = Path("text_encoder") / "model.safetensors"
    weights = Path("unet") / "diffusion_pytorch_model.safetensors"
    old, new = made / "model", tmp_path / "model"
    assert (new / words).read_bytes() == (old / words).read_bytes()
    assert (new / weights).read_bytes() != (old / weights).read_bytes()


def test_the_last_course_can_be_taken_alone(made: Path, tmp_path: Path) -> None:
    """Training from a shipped model changes the denoiser only."""
    options = ("--denoiser-steps", "0", "--decoder-steps", "0")
    run(tmp_path, "--start", str(made / "model"), "--out", str(tmp_path / "model"), *options)
    changed = {
        part
        for part in ("unet", "vae", "text_encoder")
        for old in (made / "model" / part).glob("*.safetensors")
        if old.read_bytes() != (tmp_path / "model" / part / old.name).read_bytes()
    }
    assert changed == {"unet"}


def test_a_turbo_model_is_a_stock_pipeline(made: Path, tmp_path: Path) -> None:
    """The model is written beside the parts it shares, and draws in one step without guidance."""
    turbo = tmp_path / "turbo"
    run(tmp_path, "--make", "turbo", "--start", str(made / "model"), "--out", str(turbo))
    weights = Path("unet") / "diffusion_pytorch_model.safetensors"
    assert (turbo / weights).read_bytes() != (made / "model" / weights).read_bytes()
    assert sample(load(turbo), ["a red circle"], Setting(1, 1.0, "lcm")).shape == (1, 128, 128, 3)


def test_a_style_is_loaded_by_stock_pipelines(made: Path, tmp_path: Path) -> None:
    """The LoRA is under 3 MB, and with it the same seed gives another picture."""
    style = tmp_path / "outline"
    run(tmp_path, "--make", "outline", "--start", str(made / "model"), "--out", str(style))
    assert sum(file.stat().st_size for file in style.iterdir()) < 3_000_000
    pipeline = load(made / "model")
    noise = torch.randn(1, 4, 16, 16)

    def draw() -> torch.Tensor:
        settings = {"num_inference_steps": 2, "output_type": "latent"}
        return pipeline("a red circle", latents=noise, **settings).images

    before = draw()
    pipeline.load_lora_weights(style)
    assert not torch.equal(before, draw())


def test_a_controlnet_keeps_its_weights_well_enough(tmp_path: Path) -> None:
    """Stored in 8 bits it comes back in fp32, each tensor within 7 % of what it was."""
    torch.manual_seed(0)
    net = build_edges(denoiser.build())
    for weights in net.parameters():
        torch.nn.init.normal_(weights, std=0.01)  # also what starts at zero
    before = {name: weights.clone() for name, weights in net.state_dict().items()}
    export_controlnet(net, tmp_path)
    after = ControlNetModel.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    assert {weights.dtype for weights in after.values()} == {torch.float32}
    away = {name: ((after[name] - was).norm() / was.norm()).item() for name, was in before.items()}
    assert max(away.values()) < 0.07
    assert max(away[name] for name in away if "controlnet_down_blocks" in name) < 0.001


def test_the_student_learns_from_its_teacher_only_what_is_open(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Motifs are as the teacher draws them of that noise; all else is what the renderer draws."""
    asked: list[str] = []

    def teach(_: TurboCourse, captions: list[str], noise: torch.Tensor) -> torch.Tensor:
        asked.extend(captions)
        return noise + 9

    monkeypatch.setattr(TurboCourse, "_as_the_teacher", teach)
    course = TurboCourse(Parts.shipped(made / "model", torch.device("cpu")), 24, 0)
    course._renew()
    taught = [(pair[1] - pair[0]).sub(9).abs().max() < 1e-5 for pair in course.pairs]
    assert 0 < sum(taught) < 24
    assert [words for words, by in zip(course.captions, taught, strict=True) if by] == asked
    assert all(any(word in words for word in MOTIF_WORDS) for words in asked)


def test_edges_are_taken_by_stock_pipelines(made: Path, tmp_path: Path) -> None:
    """The ControlNet is under 3 MB, loads by itself and fits the model it was made for."""
    edges = tmp_path / "edges"
    run(tmp_path, "--make", "edges", "--start", str(made / "model"), "--out", str(edges))
    assert sum(file.stat().st_size for file in edges.iterdir()) < 3_000_000
    control = ControlNetModel.from_pretrained(edges, dtype=torch.float32)
    pipeline = StableDiffusionControlNetPipeline(
        **load(made / "model").components, controlnet=control
    )
    given = Image.new("RGB", (128, 128))
    assert pipeline("a red circle", image=given, num_inference_steps=2).images[0].size == (128, 128)
