"""The table of settings: each variable with its type, default, limits, unit, meaning and readers.

`docs/reference/settings.md` is generated from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasGenerator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.config.cdn import CdnSetting  # noqa: TC001 - pydantic reads it off the annotation
from app.config.environment import variable
from app.config.repository import REPOSITORY
from app.config.sources import Sources  # noqa: TC001 - likewise
from app.config.types import (
    BaseUrl,
    Finite,
    Folder,
    Names,
    Prices,
    Schemes,
    Secret,
    Switch,
    Tags,
)

DAY_S = 86_400
MODELS_FILE = REPOSITORY / "models" / "models.toml"
ROLES = ("api", "intake", "dispatcher", "courier", "worker", "flower", "commands")
"""The readers of settings: the roles, and the commands that use the database, such as `audit`."""


def setting(
    default: Any = ...,
    *,
    about: str,
    by: str,
    unit: str = "",
    takes: str = "",
    secret: bool = False,
    **more: Any,
) -> Any:
    """Describe a setting: its meaning, the roles that read it, its unit and the values it takes.

    `by` has names of `ROLES` between spaces. No message and no `repr` shows a `secret`. `more` are
    further arguments of pydantic's `Field`, such as its limits.
    """
    roles = ROLES if by == "all" else tuple(by.split())
    if unknown := set(roles) - set(ROLES):
        raise ValueError(f"there is no role {unknown}")
    extra: dict[str, Any] = {"unit": unit, "roles": list(roles), "takes": takes, "secret": secret}
    if "default_factory" not in more:
        more["default"] = default
    return Field(description=about, repr=not secret, json_schema_extra=extra, **more)


class SettingsTable(BaseSettings):
    """The variables of `Settings`, in the order of the reference page."""

    model_config = SettingsConfigDict(
        alias_generator=AliasGenerator(validation_alias=variable),
        case_sensitive=True,
        enable_decoding=False,  # each type decodes its own text and has its own messages
        frozen=True,
        validate_default=False,
        hide_input_in_errors=True,  # URLs carry passwords
    )

    directory: Folder = setting(
        Path("var"), validation_alias=variable("DIR"), validate_default=True, by="all",
        about="The folder of the embedded farm, which `renderfarm up` writes. Servers that are "
        "not set are those of its `farm.json`, while that farm runs.",
    )  # fmt: skip
    database_url: Annotated[str, Schemes(("postgresql", "postgresql+psycopg"))] = setting(
        by="api intake dispatcher courier worker commands", secret=True,
        about="The Postgres database that holds the farm's whole state.",
    )  # fmt: skip
    broker_url: Annotated[str, Schemes(("redis", "rediss"))] = setting(
        by="api dispatcher worker flower", secret=True,
        about="The Redis that carries hints and previews. No job is lost with it. "
        "`renderfarm doctor` tries it too.",
    )  # fmt: skip
    storage_url: Annotated[str, Schemes(("az", "file", "gs", "s3"))] = setting(
        default_factory=lambda data: (data["directory"] / "objects").as_uri(),
        by="api dispatcher courier worker",
        about="The object store of images, uploads and checkpoints. Credentials come by the "
        "store's own variables.",
    )  # fmt: skip
    storage_class: str = setting(
        "", by="worker",
        about="S3's storage class, Google's or Azure's access tier. Local files have none.",
    )  # fmt: skip
    storage_tags: Tags = setting(
        (), by="worker", takes="`name=value,other=value`, up to 10",
        about="Tags of each object on S3 and Azure. `{tenant}` stands for the tenant's id.",
    )  # fmt: skip
    storage_verify: Literal["read", "size"] = setting(
        "read", by="worker",
        about="How a stored object is checked: `read` compares its SHA-256, `size` its size.",
    )  # fmt: skip
    cdn: CdnSetting = setting(
        None, by="api dispatcher courier worker", takes="a JSON object", secret=True,
        about="The CDN that signs the URLs of images instead of the store.",
    )  # fmt: skip
    c2pa_cert: Path | None = setting(
        None, by="worker", takes="a file, together with `RENDERFARM_C2PA_KEY`",
        about="The certificate of content credentials and its issuers, in PEM.",
    )  # fmt: skip
    c2pa_key: Path | None = setting(
        None, by="worker", takes="a file, together with `RENDERFARM_C2PA_CERT`",
        validate_default=True,
        about="The certificate's private key in PEM: ECDSA, RSA or Ed25519.",
    )  # fmt: skip
    moderation: str = setting(
        "", by="worker", takes="`package.module:function`",
        about="A callable that judges each image before it is stored.",
    )  # fmt: skip
    public_url: BaseUrl = setting(
        "http://127.0.0.1:8000", by="api courier",
        about="The URL of the API as clients reach it; it begins the URLs of local files.",
    )  # fmt: skip
    secret: Secret = setting(
        "", by="api courier", takes="at least 16 characters", secret=True,
        about="Signs the URLs of local files. The API does not start without it.",
    )  # fmt: skip
    models_file: Path = setting(
        MODELS_FILE, validation_alias=variable("MODELS"), by="api intake worker commands",
        about="The registry of models.",
    )  # fmt: skip
    serve: Names = setting(
        None, by="api intake worker commands", takes="names between commas",
        about="The models to serve, all but those of the `null` pipeline unless set.",
    )  # fmt: skip
    host: str = setting("127.0.0.1", by="api flower", about="The address to listen on.")
    port: int = setting(
        8000, ge=0, le=65535, by="api", about="The API's port; 0 takes any free one."
    )
    slots: int = setting(
        16, ge=1, le=1024, unit="jobs", by="worker", about="Jobs that a worker holds at a time."
    )
    max_rows: int = setting(
        16, ge=1, le=1024, unit="images", by="worker",
        about="Images that share one forward pass, at most.",
    )  # fmt: skip
    device_memory_mb: int = setting(
        0, ge=0, le=2**24, unit="MiB", by="worker",
        about="Memory for weights and forward passes. 0: 95 % of the free memory of an "
        "accelerator, no limit on a CPU.",
    )  # fmt: skip
    lease_s: Finite = setting(
        30.0, ge=1.0, unit="s", by="dispatcher worker",
        about="A worker's claim on a job ends after this time without renewal.",
    )  # fmt: skip
    renew_s: Finite = setting(
        default_factory=lambda data: min(5.0, data["lease_s"] / 3), ge=0.1, unit="s",
        by="dispatcher worker", takes="at least 0.1, at most half of `RENDERFARM_LEASE_S`",
        about="Time between two renewals of a lease.",
    )  # fmt: skip
    watchdog_s: Finite = setting(
        60.0, ge=1.0, unit="s", by="worker",
        about="A worker whose device makes no step for this time renews no lease and exits.",
    )  # fmt: skip
    hint_again_s: Finite = setting(
        5.0, ge=0.1, unit="s", by="dispatcher",
        about="A hint that no worker has taken is sent again after this time.",
    )  # fmt: skip
    max_failures: int = setting(
        3, ge=1, le=100, unit="attempts", by="worker",
        about="A job that fails this often has failed for good.",
    )  # fmt: skip
    max_crashes: int = setting(
        3, ge=2, le=100, unit="crashes", by="dispatcher",
        about="A job that was on this many lost workers has failed. At least 2, because a job is "
        "alone on its device only after its first crash.",
    )  # fmt: skip
    url_expiry_s: int = setting(
        DAY_S, ge=1, le=7 * DAY_S, unit="s", by="api courier",
        about="How long the URL of an image is valid.",
    )  # fmt: skip
    sweep_s: Finite = setting(
        21_600.0, ge=1.0, unit="s", by="dispatcher",
        about="Time between two sweeps of the janitor, which deletes objects that no job names.",
    )  # fmt: skip
    keep_uploads_s: Finite = setting(
        float(DAY_S), ge=3600.0, unit="s", by="api intake dispatcher",
        about="How long an uploaded picture is kept. Jobs that wait or run keep theirs longer.",
    )  # fmt: skip
    usd_per_gpu_hour: Finite = setting(
        0.0, ge=0.0, unit="US dollars", by="worker",
        about="The price of an hour on a device that `RENDERFARM_PRICES` does not name.",
    )  # fmt: skip
    prices: Prices = setting(
        (), by="worker", takes='a JSON object, such as `{"NVIDIA L4": 0.71}`', unit="US dollars",
        about="The price of an hour by the beginning of a device's name; the longest one wins.",
    )  # fmt: skip
    webhook_allow_private: Switch = setting(
        default=False, by="api intake courier worker commands", takes="0 or 1",
        about="Whether webhooks and pictures may use private addresses.",
    )  # fmt: skip
    flower_port: int = setting(5555, ge=0, le=65535, by="flower", about="Flower's port.")
    flower_user: str = setting("farm", by="flower", about="The user of Flower's login.")
    flower_password: str = setting(
        "", by="flower", secret=True,
        about="The password of Flower's login. Flower does not start without it.",
    )  # fmt: skip
    sources: Sources = setting(
        (), by="intake commands", takes="a JSON list", secret=True,
        about="The queues that intake reads, each with the tenant of its jobs.",
    )  # fmt: skip
