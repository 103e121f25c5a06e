"""What a customer gets who installs the wheel, and what a checkout gets instead."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
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
    """The wheel, built from this checkout with what is installed: nothing is fetched."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)
    (file,) = target.glob("*.whl")
    with ZipFile(file) as archive:
        yield archive


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    """The wheel's own description of itself."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return BytesHeaderParser().parsebytes(wheel.read(name))


def test_wheel_ships_the_sdk_alone(wheel: ZipFile) -> None:
    """The wheel brings one top-level package, `renderfarm`: no `queues`, no `app`, no tests."""
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"renderfarm"}


def test_wheel_ships_every_module(wheel: ZipFile) -> None:
    """Every module is in the wheel, `queues/` as `renderfarm.queues`, with the mark of types."""
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
    """The `renderfarm` command is the farm's: a customer's environment gets none."""
    names = wheel.namelist()
    assert not [name for name in names if "entry_points" in name or ".data/scripts" in name]


def test_sdk_needs_httpx_alone(metadata: Message) -> None:
    """Without extras, installing the SDK installs httpx and nothing else of ours to choose."""
    required = metadata.get_all("Requires-Dist", [])
    plain = [line for line in required if "extra ==" not in line]
    assert [line.partition("<")[0] for line in plain] == ["httpx"]


def test_extras_bring_one_cloud_each(metadata: Message) -> None:
    """Each extra names one vendor's libraries, so that no customer installs another cloud's."""
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
    """The licence is named in the metadata and its text is shipped."""
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]


def test_checkout_has_the_command() -> None:
    """An editable install puts `renderfarm` beside its Python, and the command answers."""
    command = Path(sys.executable).with_name("renderfarm")
    done = subprocess.run([command, "--version"], check=True, capture_output=True, text=True)
    assert distribution("renderfarm").version in done.stdout


def test_everything_installed_is_pinned() -> None:
    """Everything that the groups install is pinned at the version installed here."""
    lines = (REPOSITORY / "constraints.txt").read_text().split()
    pins = {str(canonicalize_name(name)): version for name, version in map(_pin, lines)}
    installed = _brought_by_the_groups()
    assert len(installed) > 100
    assert {name: version for name, version in installed.items() if pins.get(name) != version} == {}


def _pin(line: str) -> tuple[str, str]:
    name, _, version = line.partition("==")
    return name, version


def _brought_by_the_groups() -> dict[str, str]:
    """Every package that the groups need on this machine, with its plain version."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    groups = project["dependency-groups"].values()
    plain = [entry for group in groups for entry in group if isinstance(entry, str)]
    left = [Requirement(line) for line in (*plain, *project["project"]["dependencies"])]
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        wanted = left.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        if name == BUILT_IF_POSSIBLE and not any(Distribution.discover(name=name)):
            found[name] = next(iter(wanted.specifier)).version  # needs a compiler
            continue
        found[name] = Version(distribution(name).version).public
        left += _needs(name, extras)
    return found


def _needs(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": each}) for each in ("", *extras)):
            yield requirement


CUSTOMER = """
import sys
from renderfarm.queues import open_queue
with open_queue("memory://renders") as queue:
    job_id = queue.send({"prompt": "a red circle"})
    (message,) = queue.receive()
    assert job_id in message.body.decode()
    queue.ack([message])
import queues
assert queues.MINE == 42, queues.__file__
from renderfarm import AsyncFarm, Farm
from renderfarm.testing import FakeFarm
assert Farm(transport=FakeFarm()).render("a ring").seed >= 0
for name in ("app", "workers", "bench", "models", "redis", "boto3", "torch", "pydantic"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported")
print("served")
"""
SDK_NEEDS = ("httpx", "httpcore", "anyio", "certifi", "h11", "idna", "typing_extensions", "sniffio")
"""What httpx brings; linked from this environment, as a test has no network."""


def environment(folder: Path, wheel_file: ZipFile) -> Path:
    """A fresh virtual environment with the wheel and what httpx brings; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    wheel_file.extractall(site)  # noqa: S202 - our own wheel
    installed = Path(sysconfig.get_path("purelib"))
    for name in SDK_NEEDS:
        for found in (installed / name, installed / f"{name}.py"):
            if found.exists():
                (site / found.name).symlink_to(found)
    return folder / "bin" / "python"


def test_the_wheel_works_in_a_clean_environment(wheel: ZipFile, tmp_path: Path) -> None:
    """The SDK and its queues work with httpx alone, and a customer's `queues.py` stays theirs."""
    python = environment(tmp_path / "venv", wheel)
    (tmp_path / "queues.py").write_text("MINE = 42\n")
    (tmp_path / "customer.py").write_text(CUSTOMER)
    done = subprocess.run(
        [python, "customer.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr


def test_a_wheel_made_from_the_sdist_has_the_queues_too(tmp_path: Path) -> None:
    """The source distribution holds the queues, and its wheel has the modules of this one."""
    build = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run(
        [*build, "-t", "sdist", "-d", tmp_path], check=True, cwd=REPOSITORY, capture_output=True
    )
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = (each for each in tmp_path.iterdir() if each.is_dir())
    subprocess.run(
        [*build, "-t", "wheel", "-d", tmp_path], check=True, cwd=source, capture_output=True
    )
    (made,) = tmp_path.glob("*.whl")
    with ZipFile(made) as archive:
        assert "renderfarm/queues/__init__.py" in archive.namelist()
        assert not [name for name in archive.namelist() if name.startswith("queues/")]


def test_no_module_imports_the_queues_by_another_name() -> None:
    """The farm and a customer import the same name, so that there is one copy of each module."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"],  # noqa: S607
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    wrong = []
    for name in tracked:
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
            names = (
                [node.module or ""] if isinstance(node, ast.ImportFrom)
                else [each.name for each in node.names] if isinstance(node, ast.Import)
                else []
            )  # fmt: skip
            wrong += [name for each in names if each.partition(".")[0] == "queues"]
    assert wrong == []
