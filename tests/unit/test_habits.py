"""The files for code hosts and editors agree with the Makefile, the version and the changelog."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text()
SECTIONS = re.findall(r"^## \[(.+?)\](?: - (.+))?$", CHANGELOG, re.MULTILINE)
"""The changelog's sections from the newest on, each as (version, date); the date can be empty."""


def tracked(*patterns: str) -> list[str]:
    """The paths of the tracked files that match, relative to the repository."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, text=True)
    return [path for path in listed.stdout.split("\0") if path]


ISSUE_FORMS = [
    path for path in tracked(".github/ISSUE_TEMPLATE/*.yml") if not path.endswith("/config.yml")
]


def load(path: str) -> Any:
    """The content of a YAML file of the repository."""
    return yaml.safe_load((REPOSITORY / path).read_text())


def commands_of_check() -> list[str]:
    """What `make check` runs, with the path of `.venv` filled in."""
    makefile = (REPOSITORY / "Makefile").read_text()
    found = re.search(r"^check:.*\n((?:\t.+\n)+)", makefile, re.MULTILINE)
    assert found
    lines = found[1].splitlines()
    return [line.strip().lstrip("@").replace("$(BIN)", ".venv/bin") for line in lines]


def test_precommit_runs_what_make_check_runs() -> None:
    """Each command of `make check` is a pre-commit hook, and there is no other hook."""
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in repository["hooks"]] == commands_of_check()


def test_precommit_checks_the_whole_tree() -> None:
    """Every hook runs on each commit, over all files, with the tools of `.venv`."""
    (repository,) = load(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["always_run"]
        assert not hook["pass_filenames"]


def test_workflow_runs_the_gate() -> None:
    """The hosted workflow runs `.ci/run` on Debian, for pull requests too, within 30 minutes."""
    workflow = load(".github/workflows/ci.yml")
    job = workflow["jobs"]["gate"]
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert job["container"].startswith("debian:")
    assert job["timeout-minutes"] == 30
    assert "pull_request" in workflow[True]  # YAML 1.1 reads the key `on` as true


def test_changelog_has_the_version() -> None:
    """The version in `pyproject.toml` is the newest that the changelog names, with its date."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    released = [(name, date) for name, date in SECTIONS if name != "Unreleased"]
    assert released[0][0] == version
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in released)


def test_changelog_begins_with_unreleased() -> None:
    """There is a place for the next change, above all releases."""
    assert SECTIONS[0] == ("Unreleased", "")


@pytest.mark.parametrize("path", tracked("*.yml", "*.yaml"))
def test_yaml_parses(path: str) -> None:
    """Every tracked YAML file parses and holds something."""
    assert load(path)


@pytest.mark.parametrize("path", ISSUE_FORMS)
def test_issue_forms_are_complete(path: str) -> None:
    """Each issue form has what code hosts require: a name, a description, labelled fields."""
    form = load(path)
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert fields
    for field in fields:
        assert field["id"]
        assert field["attributes"]["label"]


def test_every_deciding_module_is_covered() -> None:
    """The modules that may import no server and no torch are those whose branches are counted."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    (contract,) = [
        each
        for each in project["importlinter"]["contracts"]
        if each["name"] == "Decisions are plain Python"
    ]
    decide = {name.replace(".", "/") + ".py" for name in contract["source_modules"]}
    assert decide <= set(project["coverage"]["run"]["include"])
    assert project["coverage"]["run"]["branch"]
    assert project["coverage"]["report"]["fail_under"] == 100
