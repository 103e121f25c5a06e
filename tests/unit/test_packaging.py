"""Packaging: what the wheel brings to a customer, and what a checkout has in addition."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
from email.parser import BytesHeaderParser
from importlib.metadata import Distribution, distribution
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

REPOSITORY = Path(__file__).parents[2]
BUILT_IF_POSSIBLE = "python-qpid-proton"
"""`make setup` leaves it out; without it the Service Bus tests skip."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    """The wheel, built from this checkout without a network."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)
    (file,) = target.glob("*.whl")
    with ZipFile(file) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    """The metadata in the wheel."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return BytesHeaderParser().parsebytes(wheel.read(name))


def test_wheel_ships_the_sdk_alone(wheel: ZipFile) -> None:
    """The wheel brings one top-level package, `renderfarm`: no `queues`, no `app`, no tests."""
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"renderfarm"}


def test_wheel_ships_every_module(wheel: ZipFile) -> None:
    """Every module is in the wheel, `queues/` as `renderfarm.queues`, and so is `py.typed`."""
    names = set(wheel.namelist())
    sources = {
        (placed / path.relative_to(REPOSITORY / folder)).as_posix()
        for folder, placed in (
            ("renderfarm", Path("renderfarm")),
            ("queues", Path("renderfarm/queues")),
        )
        for path in (REPOSITORY / folder).rglob("*.py")
    }
    assert sources - names == set()
    assert "renderfarm/py.typed" in names


def test_wheel_brings_no_command(wheel: ZipFile) -> None:
    """The wheel installs no `renderfarm` command: its code is not in the wheel."""
    names = wheel.namelist()
    assert not [name for name in names if "entry_points" in name or ".data/scripts" in name]


def test_sdk_needs_httpx_alone(metadata: Message) -> None:
    """Without extras the SDK requires httpx and nothing else."""
    required = metadata.get_all("Requires-Dist", [])
    plain = [line for line in required if "extra ==" not in line]
    assert [line.partition("<")[0] for line in plain] == ["httpx"]


def test_extras_bring_one_cloud_each(metadata: Message) -> None:
    """Each extra requires the libraries of one vendor only."""
    extras: dict[str, list[str]] = {name: [] for name in metadata.get_all("Provides-Extra", [])}
    for line in metadata.get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        if marker:
            extras[marker.split("'")[1]].append(Requirement(requirement).name)
    assert extras == {
        "images": ["pillow"],
        "sqs": ["boto3"],
        "pubsub": ["google-cloud-pubsub"],
        "servicebus": ["azure-identity", "azure-servicebus"],
        "redis": ["redis"],
    }


def test_wheel_carries_its_licence(metadata: Message) -> None:
    """The metadata name the licence, and the wheel contains its text."""
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_checkout_has_the_command() -> None:
    """An editable install puts `renderfarm` next to its Python, and the command works."""
    command = Path(sys.executable).with_name("renderfarm")
    done = subprocess.run([command, "--version"], check=True, capture_output=True, text=True)
    assert distribution("renderfarm").version in done.stdout


def test_everything_installed_is_pinned() -> None:
    """Everything that the groups install is pinned at the version installed here."""
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    pins = {str(canonicalize_name(name)): version for name, version in map(_pin, lines)}
    installed = _needed_by_the_groups()
    assert len(installed) > 100
    assert {name: version for name, version in installed.items() if pins.get(name) != version} == {}


def _pin(line: str) -> tuple[str, str]:
    name, _, version = line.partition("==")
    return name, version


def _needed_by_the_groups() -> dict[str, str]:
    """Every package that the groups need on this machine, with its plain version."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    plain = [entry for group in groups for entry in group if isinstance(entry, str)]
    waiting = [Requirement(line) for line in (*plain, *project["project"]["dependencies"])]
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name == BUILT_IF_POSSIBLE and not any(Distribution.discover(name=name)):
            found[name] = next(iter(wanted.specifier)).version  # needs a compiler
            continue
        found[name] = Version(distribution(name).version).public
        waiting += _needs(name, extras)
    return found


def _needs(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in ("", *extras)):
            yield requirement


CUSTOMER = """
import sys
from importlib.metadata import packages_distributions

from renderfarm import AsyncFarm, Farm
from renderfarm.queues import open_queue
from renderfarm.testing import FakeFarm

with open_queue("memory://renders") as queue:
    job_id = queue.send({"prompt": "a red circle"})
    (message,) = queue.receive()
    assert job_id in message.body.decode()
    queue.ack([message])

import queues

assert queues.MINE == 42, queues.__file__
assert Farm(transport=FakeFarm()).render("a ring").seed >= 0
tops = [top for top, names in packages_distributions().items() if "renderfarm" in names]
assert tops == ["renderfarm"], tops
for name in ("app", "workers", "bench", "models", "redis", "boto3", "torch", "pydantic"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported")
print("served")
"""


@pytest.fixture(scope="module")
def clean_python(wheel: ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel and what httpx needs, without a network."""
    folder = tmp_path_factory.mktemp("clean")
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True
    )
    install = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    subprocess.run(
        [*install, "--no-index", "--no-deps", "--quiet", str(wheel.filename)], check=True
    )
    (site,) = (folder / "venv").glob("lib/python3*/site-packages")
    links = folder / "links"
    links.mkdir()
    for name in _closure("httpx"):
        for top in {file.parts[0] for file in distribution(name).files or ()} - {
            "..",
            "__pycache__",
        }:
            (links / top).symlink_to(str(distribution(name).locate_file(top)))
    (site / "httpx.pth").write_text(f"{links}\n")
    return python


def _closure(name: str) -> set[str]:
    """The package and everything that it needs here, without extras."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        package = str(canonicalize_name(waiting.pop()))
        if package not in found:
            found.add(package)
            waiting += [each.name for each in _needs(package, frozenset())]
    return found


@pytest.mark.parametrize("first", ["queues", "renderfarm.queues"])
def test_the_wheel_works_in_a_clean_environment(
    clean_python: Path, tmp_path: Path, first: str
) -> None:
    """The SDK and its queues work with httpx alone, and a customer's `queues.py` stays theirs."""
    (tmp_path / "queues.py").write_text("MINE = 42\n")
    (tmp_path / "customer.py").write_text(f"import {first}\n{CUSTOMER}")
    done = subprocess.run(
        [clean_python, "customer.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


def test_a_wheel_made_from_the_sdist_is_the_same(wheel: ZipFile, tmp_path: Path) -> None:
    """The source distribution holds the SDK and the queues; its wheel has the same files."""
    build = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run(
        [*build, "-t", "sdist", "-d", tmp_path], check=True, cwd=REPOSITORY, capture_output=True
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (each for each in tmp_path.iterdir() if each.is_dir())
    assert {each.name for each in source.iterdir() if each.is_dir()} == {
        "bin", "queues", "renderfarm",
    }  # fmt: skip
    subprocess.run(
        [*build, "-t", "wheel", "-d", tmp_path], check=True, cwd=source, capture_output=True
    )
    (rebuilt,) = tmp_path.glob("*.whl")
    with ZipFile(rebuilt) as archive:
        assert _contents(archive) == _contents(wheel)


def _contents(archive: ZipFile) -> dict[str, bytes]:
    return {name: archive.read(name) for name in archive.namelist()}


IMPORTS_QUEUES = re.compile(r"^\s*(?:>>> )?(?:from queues[ .]|import queues\b)", re.MULTILINE)


def test_nothing_imports_the_queues_by_another_name() -> None:
    """All code and all pages say `renderfarm.queues`, so that there is one copy of each module."""
    wrong = [str(path) for path in _sources(".py") if "queues" in _imported(path)]
    texts = [path for path in (*_sources(".py"), *_sources(".md")) if path != Path(__file__)]
    wrong += [str(path) for path in texts if IMPORTS_QUEUES.search(path.read_text())]
    assert wrong == []


def _sources(suffix: str) -> Iterator[Path]:
    """Every file of this kind in the repository, without what git ignores."""
    ignored = {"var", "demo", "dist", "site"}
    for folder in REPOSITORY.iterdir():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name not in ignored:
            yield from folder.rglob(f"*{suffix}")
    yield from REPOSITORY.glob(f"*{suffix}")


def _imported(path: Path) -> set[str]:
    """The top-level names that a module imports."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in plain | froms}
