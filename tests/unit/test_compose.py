"""The Compose files against the official schema, and against the program that they start.

`data/compose-spec.json` is the schema of the Compose Specification (github.com/compose-spec,
Apache-2.0), as the package check-jsonschema 0.39 ships it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import jsonschema
import pytest
import yaml

from app.cli import COMMANDS
from app.config.environment import variable
from app.config.settings import Settings
from app.config.table import SettingsTable

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
FILES = ("compose.yaml", "compose.gpu.yaml")
STANDARD = re.compile(r"^AWS_[A-Z_]+$")  # read by the store's own library
REFERENCE = re.compile(r"\$\{([A-Z_]+)(:[-?])?([^}]*)\}")


def _load(name: str) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load((REPOSITORY / name).read_text()))


SERVICES: dict[str, dict[str, Any]] = _load("compose.yaml")["services"]
OURS = {name: each for name, each in SERVICES.items() if "build" in each}


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    """Checks a file against the Compose Specification."""
    schema = json.loads((Path(__file__).parent / "data" / "compose-spec.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def _read_by_settings() -> set[str]:
    """The variables of the table of settings."""
    return {variable(name) for name in SettingsTable.model_fields}


def _published() -> Iterator[str]:
    for service in SERVICES.values():
        yield from service.get("ports", ())


@pytest.mark.parametrize("name", FILES)
def test_files_follow_the_specification(
    name: str, validator: jsonschema.protocols.Validator
) -> None:
    """Both files are valid by the Compose Specification's own schema."""
    assert [error.message for error in validator.iter_errors(_load(name))] == []


def test_schema_finds_a_mistake(validator: jsonschema.protocols.Validator) -> None:
    """A misspelt key of a service is found, so that silence means something."""
    broken = _load("compose.yaml")
    broken["services"]["api"]["depend_on"] = broken["services"]["api"].pop("depends_on")
    assert any("depend_on" in error.message for error in validator.iter_errors(broken))


@pytest.mark.parametrize("name", OURS)
def test_services_run_real_commands(name: str) -> None:
    """Each of our services runs one `renderfarm` command that exists."""
    (command,) = OURS[name]["command"]
    assert command in COMMANDS


def test_intake_starts_on_request() -> None:
    """Intake needs queues, so its service starts only with the profile `queues`."""
    profiles = {name: OURS[name]["profiles"] for name in OURS if "profiles" in OURS[name]}
    assert profiles == {"intake": ["queues"]}


def test_every_role_has_its_service() -> None:
    """The whole farm is there: each role that a cluster runs is a service of its own."""
    roles = {"migrate", "api", "intake", "dispatcher", "courier", "worker", "flower"}
    assert {service["command"][0] for service in OURS.values()} == roles


@pytest.mark.parametrize("name", OURS)
def test_variables_are_read(name: str) -> None:
    """Every variable that a service of ours is given is one that the settings or the store read."""
    given = {key for key in OURS[name]["environment"] if not STANDARD.match(key)}
    assert given
    assert given - _read_by_settings() == set()


@pytest.mark.parametrize("name", OURS)
def test_settings_take_what_they_are_given(name: str) -> None:
    """With a filled .env, the settings of each of our services are good ones."""
    filled = {key: _fill(str(value)) for key, value in OURS[name]["environment"].items()}
    settings = Settings.from_environment(filled)
    assert settings.storage_url.startswith("s3://")
    if name == "api":
        assert (settings.secret, settings.host) == ("x" * 48, "0.0.0.0")  # noqa: S104 - inside


def _fill(value: str) -> str:
    """Compose's substitution: a default where there is one, else a secret of 48 characters."""
    return REFERENCE.sub(lambda found: found[3] if found[2] == ":-" else "x" * 48, value)


def test_dependencies_exist() -> None:
    """Whatever a service waits for is there, and can become what it is waited for to be."""
    for service in SERVICES.values():
        for target, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[target]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert SERVICES[target]["restart"] == "on-failure"


def test_ports_stay_on_this_machine() -> None:
    """Every published port is on the loopback address."""
    published = list(_published())
    assert len(published) == 3
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_secrets_have_no_defaults() -> None:
    """Passwords and keys have no defaults, and `.env.example` asks for exactly them."""
    found = {name: kind for name, kind, _ in REFERENCE.findall((REPOSITORY / FILES[0]).read_text())}
    required = {name for name, kind in found.items() if kind == ":?"}
    assert [name for name in found if re.search("PASSWORD|SECRET|KEY", name)] == sorted(
        required, key=list(found).index
    )
    example = (REPOSITORY / ".env.example").read_text()
    assert set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)) == required
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) == found.keys()


def test_mounted_files_exist() -> None:
    """Every folder or file of the repository that a service mounts is there."""
    mounts = [mount for each in SERVICES.values() for mount in each.get("volumes", ())]
    local = [_fill(mount).split(":")[0] for mount in mounts]
    paths = [path for path in local if path.startswith(".")]
    assert paths
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_build_targets_exist() -> None:
    """Each image is a stage of the Dockerfile, and each build argument is one that it declares."""
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    arguments = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    for service in OURS.values():
        assert service["build"]["target"] in stages
        assert service["build"].get("args", {}).keys() <= arguments
    gpu = _load("compose.gpu.yaml")["services"]["worker"]["build"]["args"]
    assert gpu.keys() <= arguments
