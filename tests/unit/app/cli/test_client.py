"""Client commands, with the SDK's fake farm."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import PIL.Image
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from renderfarm import Farm
from renderfarm.testing import FakeFarm

if TYPE_CHECKING:
    from pathlib import Path


class Shell:
    """Runs the command line with a fake farm."""

    def __init__(self, fake: FakeFarm) -> None:
        self.fake = fake

    def __call__(self, *words: str, **settings: Any) -> Result:
        """Run `renderfarm WORDS`."""

        def connect() -> Farm:
            return Farm(transport=self.fake, sleep=lambda _: None)

        return CliRunner().invoke(main, words, obj=connect, prog_name="renderfarm", **settings)


@pytest.fixture
def shell() -> Shell:
    """A shell with a farm that answers every call."""
    return Shell(FakeFarm())


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_submit_saves_the_picture(shell: Shell, tmp_path: Path) -> None:
    """Every field of a request has an option, and the picture is saved under the given path."""
    path = tmp_path / "circle.png"
    words = (
        "submit 'a red circle' --model scenes --width 64 --height 72 --steps 4 --guidance-scale 3"
        " --num-images 1 --seed 7 --scheduler euler --negative-prompt blur --priority 2"
        " --deadline 60 --output-format png"
    )
    result = shell(*[word.strip("'") for word in _split(words)], "-o", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    assert PIL.Image.open(path).size == (64, 72)
    assert shell.fake.requests[0] == {
        "prompt": "a red circle",
        "model": "scenes",
        "width": 64,
        "height": 72,
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
        "num_images": 1,
        "seed": 7,
        "scheduler": "euler",
        "negative_prompt": "blur",
        "priority": 2,
        "deadline_s": 60.0,
        "output_format": "png",
    }


def test_several_pictures_are_numbered(shell: Shell, tmp_path: Path) -> None:
    """Several pictures are saved as NAME-1.png, NAME-2.png and so on."""
    result = shell("submit", "a", "--num-images", "2", "-o", str(tmp_path / "a.b.png"))
    assert result.exit_code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.b-1.png", "a.b-2.png"]


def test_without_a_file_the_urls_are_printed(shell: Shell) -> None:
    """Without -o the URLs of the pictures are printed."""
    assert shell("submit", "a").stdout.startswith("http://renderfarm.test/files/")


def test_no_wait_prints_the_id(shell: Shell) -> None:
    """--no-wait prints only the id and returns at once."""
    assert shell("submit", "a", "--no-wait").stdout.split() == list(shell.fake.job_ids)
    assert shell("submit", "a", "--no-wait", "-o", "a.png").exit_code == 2


def test_submit_speaks_json(shell: Shell) -> None:
    """--json prints the whole job, with times in ISO 8601."""
    job = json.loads(shell("submit", "a", "--json").stdout)
    assert (job["status"], job["request"]["prompt"], len(job["images"])) == ("succeeded", "a", 1)
    assert job["created_at"] == "2026-01-01T00:00:01+00:00"


def test_bad_fields_are_named(shell: Shell) -> None:
    """A request that the farm refuses is a usage error that names each bad field."""
    result = shell("submit", "a", "--width", "63", "--seed", "-1")
    assert result.exit_code == 2
    assert "width: must be a multiple of 8" not in result.stdout
    assert "width:" in result.stderr
    assert "seed:" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_that_are_none_are_named(shell: Shell, value: str) -> None:
    """NaN and infinity never reach the farm."""
    result = shell("submit", "a", "--guidance-scale", value)
    assert (result.exit_code, shell.fake.requests) == (2, ())
    assert "guidance_scale" in result.stderr


def test_a_failed_job_exits_1(shell: Shell, tmp_path: Path) -> None:
    """For a failed job the reason is printed in one line, and no file is left."""
    shell.fake.fail_next("out_of_memory", "too large")
    result = shell("submit", "a", "-o", str(tmp_path / "a.png"))
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "too large (out_of_memory)" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_found_before_rendering(shell: Shell, tmp_path: Path) -> None:
    """Nothing is submitted if the folder for its picture does not exist."""
    result = shell("submit", "a", "-o", str(tmp_path / "no" / "a.png"))
    assert (result.exit_code, shell.fake.requests) == (2, ())
    assert "no folder" in result.stderr


def test_ctrl_c_tells_how_to_go_on(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while waiting does not cancel the job, and prints its id and the next commands."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.cli.client._watch", interrupt)
    result = shell("submit", "a")
    (job_id,) = shell.fake.job_ids
    assert result.exit_code == 130
    assert f"renderfarm job {job_id} -o FILE" in result.stderr
    assert f"renderfarm cancel {job_id}" in result.stderr


def test_a_terminal_sees_the_steps(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a bar on stderr shows states and steps; stdout has only the result."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = shell("submit", "a", "--steps", "4")
    assert result.exit_code == 0
    assert "4/4" in result.stderr
    assert result.stdout.startswith("http://")


def test_jobs_are_listed(shell: Shell) -> None:
    """`jobs` prints a line for each job, newest first; options filter them."""
    for prompt in ("first", "second"):
        shell("submit", prompt)
    header, newest, oldest = shell("jobs").stdout.splitlines()
    assert header.split("\t")[:2] == ["id", "status"]
    assert newest.endswith("\tsecond")
    assert oldest.endswith("\tfirst")
    assert len(shell("jobs", "--limit", "1", "--json").stdout.splitlines()) == 1
    assert json.loads(shell("jobs", "--status", "failed", "--json").stdout) == []
    assert json.loads(shell("jobs", "--model", "other", "--json").stdout) == []


def test_prompts_cannot_draw_on_the_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Escape sequences and markup in a prompt are printed as plain text."""
    shell("submit", "\x1b[2J[red]a[/red]\nb")
    assert "\x1b" not in shell("jobs").stdout
    assert len(shell("jobs").stdout.splitlines()) == 2
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    shown = shell("jobs").stdout
    assert "\x1b[2J" not in shown
    assert "[red]a[/red] b" in shown


def test_one_job_is_shown_and_fetched(shell: Shell, tmp_path: Path) -> None:
    """`job` shows a job, also as JSON; with -o it waits for the picture."""
    job_id = shell("submit", "a", "--no-wait").stdout.strip()
    assert f"id\t{job_id}" in shell("job", job_id).stdout
    assert json.loads(shell("job", job_id, "--json").stdout)["id"] == job_id
    path = tmp_path / "a.png"
    assert shell("job", job_id, "-o", str(path)).exit_code == 0
    assert path.exists()


def test_cancel(shell: Shell) -> None:
    """A queued job is cancelled; for a final or unknown job the error is one line."""
    job_id = shell("submit", "a", "--no-wait").stdout.strip()
    assert shell("cancel", job_id).stdout == f"{job_id} cancelled\n"
    shell("submit", "b")
    for again in (
        shell("cancel", shell.fake.job_ids[1]),
        shell("cancel", "none"),
        shell("cancel", ""),
    ):
        assert again.exit_code == 1
        assert again.stderr.startswith("Error: ")
        assert again.stderr.count("\n") == 1


def test_models_are_listed(shell: Shell) -> None:
    """`models` prints the limits of each model."""
    assert "scenes\t64-512\t64-512\t8\t1-100\t1-8" in shell("models").stdout
    assert json.loads(shell("models", "--json").stdout)[0]["limits"]["max_steps"] == 100


def test_no_farm_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a farm the error names the command that starts one."""
    monkeypatch.chdir(tmp_path)
    for name in ("RENDERFARM_URL", "RENDERFARM_DIR"):
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 1
    assert "renderfarm up" in result.stderr


def _split(words: str) -> list[str]:
    head, prompt, tail = words.split("'")
    return [*head.split(), prompt, *tail.split()]
