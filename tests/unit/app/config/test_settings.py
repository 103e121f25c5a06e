"""Reading the settings from environment variables."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from app.config import renamed
from app.config.settings import Settings, servers_of
from app.errors import SettingsError

NEEDED = {
    "RENDERFARM_DATABASE_URL": "postgresql://u:p@db/farm",
    "RENDERFARM_BROKER_URL": "redis://:p@broker/0",
    "RENDERFARM_DIR": "/nowhere",
}


def read(**changes: str) -> Settings:
    """The settings of these variables, given without their prefix, and of the required ones."""
    return Settings.from_environment(
        NEEDED | {f"RENDERFARM_{name}": value for name, value in changes.items()}
    )


def test_every_other_setting_has_a_default() -> None:
    """Only the URLs of the two servers have no default."""
    settings = read()
    assert settings.slots == 16
    assert settings.storage_url == "file:///nowhere/objects"
    assert settings.serve is None
    assert settings.models_file.name == "models.toml"
    assert not settings.webhook_allow_private


def test_each_variable_is_read() -> None:
    """The value of a variable replaces the default."""
    settings = read(
        SERVE=" scenes, null ,", SLOTS="3", LEASE_S="2.5", RENEW_S="0.5", PUBLIC_URL="https://f.test/",
        WEBHOOK_ALLOW_PRIVATE="1", SECRET="0123456789abcdef", MODELS="/m.toml",
    )  # fmt: skip
    assert settings.serve == frozenset({"scenes", "null"})
    assert (settings.slots, settings.lease_s, settings.renew_s) == (3, 2.5, 0.5)
    assert settings.public_url == "https://f.test"
    assert settings.webhook_allow_private
    assert str(settings.models_file) == "/m.toml"


def test_tags_are_read() -> None:
    """Tags are pairs of names and values; `{tenant}` is kept for the tenant's id."""
    assert read(STORAGE_TAGS="tenant={tenant}, keep=30 d").storage_tags == (
        ("tenant", "{tenant}"),
        ("keep", "30 d"),
    )
    assert read().storage_tags == ()


@pytest.mark.parametrize(
    "tags",
    [
        "tenant",
        "=x",
        "a=",
        "a=b&c",
        "ä=b",
        "a={job}",
        "a=1,a=2",
        f"a={'x' * 221}",
        ",".join(f"t{n}=1" for n in range(11)),
    ],
)
def test_tags_that_a_store_would_refuse_stop_the_start(tags: str) -> None:
    """Tags that a store would refuse are an error at the start, before any job."""
    with pytest.raises(SettingsError, match="RENDERFARM_STORAGE_TAGS"):
        read(STORAGE_TAGS=tags)


def test_a_folder_of_any_name_holds_the_objects(tmp_path: Path) -> None:
    """The default storage URL leads to the folder also if its name has spaces, `#` or `%`."""
    settings = read(DIR=str(tmp_path / "my farm #1 100%"))
    path = unquote(urlsplit(settings.storage_url).path)
    assert path == str(tmp_path / "my farm #1 100%" / "objects")


def test_a_short_lease_is_renewed_often_enough() -> None:
    """Without `RENEW_S` a lease is renewed every third of its time, and at least every 5 s."""
    assert read(LEASE_S="3").renew_s == pytest.approx(1.0)
    assert read(LEASE_S="60").renew_s == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:p@db/farm"),
        ("DATABASE_URL", "postgresql://u:p[w@db/farm"),
        ("BROKER_URL", "amqp://broker"),
        ("STORAGE_URL", "ftp://there"),
        ("PUBLIC_URL", "farm.test"),
        ("SECRET", "too short"),
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("SLOTS", "0"),
        ("SLOTS", "2.5"),
        ("MAX_ROWS", "many"),
        ("LEASE_S", "nan"),
        ("LEASE_S", "inf"),
        ("LEASE_S", "0.5"),
        ("LEASE_S", "long"),
        ("RENEW_S", "0"),
        ("RENEW_S", "30"),
        ("HINT_AGAIN_S", "-1"),
        ("MAX_FAILURES", "0"),
        ("MAX_CRASHES", "1e3"),
        ("URL_EXPIRY_S", "0"),
        ("USD_PER_GPU_HOUR", "-0.1"),
        ("WEBHOOK_ALLOW_PRIVATE", "yes"),
        ("FLOWER_PORT", "99999"),
    ],
)
def test_a_bad_value_names_its_variable(name: str, value: str) -> None:
    """A wrong value is an error that names its variable."""
    with pytest.raises(SettingsError, match=f"RENDERFARM_{name}"):
        read(**{name: value})


def test_an_error_shows_no_password() -> None:
    """An error names the variable of a wrong URL but does not repeat the URL."""
    with pytest.raises(SettingsError) as caught:
        read(DATABASE_URL="mysql://u:hunter2@db/farm")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "BROKER_URL"])
def test_a_missing_server_is_named_with_the_remedy(name: str, tmp_path: Path) -> None:
    """Without a server's URL and an embedded farm, the message says how to start a farm."""
    environment = NEEDED | {"RENDERFARM_DIR": str(tmp_path)}
    del environment[f"RENDERFARM_{name}"]
    with pytest.raises(SettingsError, match=f"RENDERFARM_{name} is not set.*renderfarm up"):
        Settings.from_environment(environment)


def test_a_running_farm_fills_the_gaps(tmp_path: Path) -> None:
    """URLs that are not set are those of the farm that runs under RENDERFARM_DIR."""
    farm = {
        "url": "http://127.0.0.1:9",
        "database_url": "postgresql://x@y/z",
        "broker_url": "redis://b/0",
    }
    (tmp_path / "farm.json").write_text(json.dumps(farm))
    settings = Settings.from_environment({"RENDERFARM_DIR": str(tmp_path)})
    assert settings.database_url == "postgresql://x@y/z"
    assert settings.public_url == "http://127.0.0.1:9"
    overridden = {"RENDERFARM_DIR": str(tmp_path), "RENDERFARM_BROKER_URL": "redis://mine/0"}
    assert Settings.from_environment(overridden).broker_url == "redis://mine/0"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '"database_url"', "\udcff"])
def test_a_broken_farm_json_is_no_farm(tmp_path: Path, text: str) -> None:
    """A `farm.json` without a readable object counts as no farm."""
    (tmp_path / "farm.json").write_text(text, errors="surrogateescape")
    with pytest.raises(SettingsError, match="is not set"):
        Settings.from_environment({"RENDERFARM_DIR": str(tmp_path)})


def test_a_directory_that_is_a_file_is_no_farm(tmp_path: Path) -> None:
    """A RENDERFARM_DIR that is a file counts as no farm."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="is not set"):
        Settings.from_environment({"RENDERFARM_DIR": str(tmp_path / "file")})


def test_a_worker_has_the_price_of_its_device() -> None:
    """The longest matching name gives the price; a device without one has the general price."""
    settings = read(USD_PER_GPU_HOUR="9", PRICES='{"NVIDIA": 1, "NVIDIA L4": 0.71, "cpu": 0}')
    prices = [settings.usd_per_hour(d) for d in ("NVIDIA L40S", "NVIDIA A10", "cpu", "none")]
    assert prices == [0.71, 1.0, 0.0, 9.0]


@pytest.mark.parametrize(
    "prices", ["{", "[]", '{"a": -1}', '{"a": "1"}', '{"a": NaN}', '{"a": true}']
)
def test_bad_prices_are_refused(prices: str) -> None:
    """Prices other than a JSON object of numbers from 0 are an error that names the variable."""
    with pytest.raises(SettingsError, match="RENDERFARM_PRICES"):
        read(PRICES=prices)


def test_every_wrong_variable_has_a_line() -> None:
    """One error lists all wrong variables, each on a line of its own."""
    with pytest.raises(SettingsError) as caught:
        read(PORT="http", SLOTS="0", STORAGE_VERIFY="often", DATABASE_URL="mysql://db")
    assert str(caught.value).splitlines() == [
        "RENDERFARM_DATABASE_URL must start with one of postgresql://, postgresql+psycopg://",
        "RENDERFARM_STORAGE_VERIFY must be 'read' or 'size', not 'often'",
        "RENDERFARM_PORT must be a whole number, not 'http'",
        "RENDERFARM_SLOTS must be at least 1, not 0",
    ]


def test_wrong_entries_of_json_are_listed_with_the_rest() -> None:
    """A variable with JSON names each wrong entry and key, and proposes the nearest known key."""
    with pytest.raises(SettingsError) as caught:
        read(
            CDN='{"kind": "cloudfront", "url": "http://x", "keyid": "K"}',
            SOURCES='[{"url": "kafka://hunter2", "tenant": "a"}, 7]',
        )
    assert str(caught.value).splitlines() == [
        "RENDERFARM_CDN.url must begin with https://",
        "RENDERFARM_CDN.key_id is missing",
        "RENDERFARM_CDN.key_file is missing",
        "RENDERFARM_CDN.keyid is not a known key; did you mean key_id?",
        (
            "RENDERFARM_SOURCES[0].url must start with one of memory://, redis://, rediss://, sqs://, "
            "pubsub://, servicebus://"
        ),
        "RENDERFARM_SOURCES[1] must be a table of names and values",
    ]


def test_only_needed_servers_must_be_set() -> None:
    """A process that uses no broker starts without the broker's URL, and the other way round."""
    database = {"RENDERFARM_DIR": "/nowhere", "RENDERFARM_DATABASE_URL": "postgresql://db/farm"}
    settings = Settings.from_environment(database, needs=("database_url",))
    assert (settings.database_url, settings.broker_url) == ("postgresql://db/farm", "")
    with pytest.raises(SettingsError, match="RENDERFARM_BROKER_URL is not set"):
        Settings.from_environment(database, needs=("broker_url",))


@pytest.mark.parametrize(
    ("role", "servers"),
    [
        ("api", ("database_url", "broker_url")),
        ("intake", ("database_url",)),
        ("courier", ("database_url",)),
        ("flower", ("broker_url",)),
    ],
)
def test_a_role_needs_the_servers_that_it_uses(role: str, servers: tuple[str, ...]) -> None:
    """The table of settings knows which role reads which server's URL."""
    assert servers_of(role) == servers


def test_a_server_that_is_not_needed_is_checked_if_it_is_set() -> None:
    """A wrong URL is an error also for a process that does not use it."""
    wrong = NEEDED | {"RENDERFARM_BROKER_URL": "amqp://broker"}
    with pytest.raises(SettingsError, match="RENDERFARM_BROKER_URL must start"):
        Settings.from_environment(wrong, needs=("database_url",))


def test_content_credentials_need_both_files() -> None:
    """A certificate without its key, or a key alone, stops the start."""
    settings = read(C2PA_CERT="/cert.pem", C2PA_KEY="/key.pem")
    assert settings.c2pa == (Path("/cert.pem"), Path("/key.pem"))
    assert read().c2pa is None
    for name in ("C2PA_CERT", "C2PA_KEY"):
        with pytest.raises(
            SettingsError,
            match="RENDERFARM_C2PA_KEY must be set together with RENDERFARM_C2PA_CERT",
        ):
            read(**{name: "/file.pem"})


def test_settings_cannot_change() -> None:
    """Settings are a value: equal if read from the same variables, and frozen."""
    settings = read(SLOTS="3")
    assert settings == read(SLOTS="3")
    with pytest.raises(ValidationError, match="frozen"):
        settings.slots = 4


def test_no_secret_is_shown() -> None:
    """Neither the settings' text form nor an error or its causes show a password or a key."""
    secrets = {
        "DATABASE_URL": "postgresql://u:hunter2@db/farm",
        "BROKER_URL": "redis://:hunter2@broker/0",
        "SECRET": "hunter2 hunter2 hunter2",
        "FLOWER_PASSWORD": "hunter2",
        "SOURCES": '[{"url": "redis://:hunter2@h/0?stream=s", "tenant": "a"}]',
    }
    assert "hunter2" not in repr(read(**secrets))
    wrong = {name: value.replace("://", "-//") for name, value in secrets.items()}
    with pytest.raises(SettingsError) as caught:
        read(**{**wrong, "SECRET": "hunter2", "SLOTS": "0"})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_other_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the given mapping counts, and names in small letters do not."""
    monkeypatch.setenv("RENDERFARM_SLOTS", "3")
    environ = NEEDED | {"renderfarm_port": "9", "SLOTS": "4"}
    settings = Settings.from_environment(environ)
    assert (settings.slots, settings.port) == (16, 8000)


def test_an_old_name_is_read_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renamed variable still works under its old name; the log names both."""
    monkeypatch.setitem(renamed.VARIABLES, "RENDERFARM_THREADS", "RENDERFARM_SLOTS")
    with capture_logs() as lines:
        assert read(THREADS="3").slots == 3
    assert lines == [
        {
            "event": "setting_renamed",
            "log_level": "warning",
            "old": "RENDERFARM_THREADS",
            "new": "RENDERFARM_SLOTS",
        }
    ]
    with capture_logs() as lines:
        assert read(THREADS="").slots == 16
    assert lines == []


def test_an_old_and_a_new_name_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable set under both names is an error, listed with the other errors."""
    monkeypatch.setitem(renamed.VARIABLES, "RENDERFARM_THREADS", "RENDERFARM_SLOTS")
    with pytest.raises(SettingsError) as caught:
        read(THREADS="3", SLOTS="3", PORT="x")
    assert str(caught.value).splitlines() == [
        (
            "RENDERFARM_THREADS is the old name of RENDERFARM_SLOTS, which is set too: "
            "remove RENDERFARM_THREADS"
        ),
        "RENDERFARM_PORT must be a whole number, not 'x'",
    ]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name: str) -> None:
    """Each setting has a meaning and at least one process that reads it, for the reference page."""
    field = Settings.model_fields[name]
    assert isinstance(field.json_schema_extra, dict)
    assert field.description
    assert field.json_schema_extra["roles"]
