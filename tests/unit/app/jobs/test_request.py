"""Strict validation of a submission's fields, and the model's defaults."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.catalog.entries import Catalog, Defaults, Limits, Model
from app.errors import InvalidJson, InvalidRequest, Refused, TooLarge
from app.jobs.request import (
    LIMIT_BYTES,
    LIMIT_METADATA_BYTES,
    MAX_SEED,
    JobRequest,
    QueueMessage,
    complete,
    digest,
    parse,
)

MODEL = Model(
    name="scenes",
    pipeline="null",
    path=None,
    description="",
    revision="",
    delay_s=0.0,
    schedulers=("ddim", "euler"),
    defaults=Defaults(width=128, height=96, num_inference_steps=20, scheduler="euler"),
    limits=Limits(max_width=256, max_height=256, max_prompt_chars=500),
)
CATALOG = Catalog({"scenes": MODEL})
PIXEL = "data:image/png;base64,AAAA"


def full(body: str | dict[str, Any]) -> dict[str, Any]:
    """The body as it would be stored; raises `Refused`."""
    raw = body if isinstance(body, str) else json.dumps(body)
    return complete(parse(raw.encode()), CATALOG)


def test_only_a_prompt_is_required() -> None:
    """Missing fields get the model's defaults, and a missing seed gets a random one."""
    stored = full({"prompt": "a red circle"})
    assert (stored["model"], stored["width"], stored["height"]) == ("scenes", 128, 96)
    assert (stored["num_inference_steps"], stored["scheduler"]) == (20, "euler")
    assert (stored["strength"], stored["num_images"], stored["deadline_s"]) == (None, 1, 600)
    assert 0 <= stored["seed"] < 2**32
    assert full({"prompt": "a", "image": PIXEL})["strength"] == 0.8


def test_given_fields_are_not_replaced_by_defaults() -> None:
    """No default replaces a field of the request, not even a seed of 0."""
    body: dict[str, Any] = {
        "model": "scenes", "prompt": "x", "negative_prompt": "y", "width": 64, "height": 256,
        "num_inference_steps": 1, "guidance_scale": 0, "num_images": 8, "seed": 0,
        "scheduler": "ddim", "image": PIXEL, "mask": PIXEL, "strength": 0.5,
        "output_format": "webp", "priority": -100, "deadline_s": 1, "cache": False, "metadata": {"a": [1, None]},
        "webhook": {"url": "https://a.test", "events": ["job.failed"]}, "loras": [],
        "controlnet": None, "control_image": None, "controlnet_conditioning_scale": 0.5,
        "reproducible": True,
    }  # fmt: skip
    assert full(body) == body | {"quality": None}
    assert full(body | {"quality": 1})["quality"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("{}", "prompt"),
        ('{"prompt": ""}', "prompt"),
        ('{"prompt": " \\n\\t"}', "prompt"),
        ('{"prompt": 7}', "prompt"),
        ('{"prompt": null}', "prompt"),
        (f'{{"prompt": "{"x" * 10_000}"}}', "prompt"),
        ('{"prompt": "a\\u0000b"}', "prompt"),
        ("null", "body"),
        ("[]", "body"),
        ('"a red circle"', "body"),
        *(
            (f'{{"prompt": "a", {rest}}}', field)
            for field, rest in [
                ("colour", '"colour": "red"'),
                ("id", '"id": "0199c0de-0000-7000-8000-000000000000"'),
                ("negative_prompt", f'"negative_prompt": "{"x" * 501}"'),
                ("negative_prompt", '"negative_prompt": "\\u0000"'),
                ("width", '"width": 63'),
                ("width", '"width": 66'),
                ("width", '"width": 512'),
                ("width", '"width": 0'),
                ("width", '"width": -64'),
                ("width", '"width": 64.0'),
                ("width", '"width": 1e400'),
                ("width", f'"width": {10**30}'),
                ("height", '"height": "64"'),
                ("height", '"height": 65'),
                ("num_inference_steps", '"num_inference_steps": 0'),
                ("num_inference_steps", '"num_inference_steps": 1000000'),
                ("num_inference_steps", '"num_inference_steps": "20"'),
                ("num_inference_steps", '"num_inference_steps": true'),
                ("guidance_scale", '"guidance_scale": NaN'),
                ("guidance_scale", '"guidance_scale": Infinity'),
                ("guidance_scale", '"guidance_scale": -Infinity'),
                ("guidance_scale", '"guidance_scale": 1e400'),
                ("guidance_scale", '"guidance_scale": -0.1'),
                ("guidance_scale", '"guidance_scale": "5"'),
                ("num_images", '"num_images": 0'),
                ("num_images", '"num_images": 9'),
                ("num_images", '"num_images": true'),
                ("seed", '"seed": -1'),
                ("seed", f'"seed": {2**63}'),
                ("seed", f'"seed": {2**63 - 1}'),
                ("seed", f'"seed": {2**63 - 2}, "num_images": 2'),
                ("seed", '"seed": 1.5'),
                ("model", '"model": "nobody"'),
                ("model", '"model": ""'),
                ("model", f'"model": "{"m" * 101}"'),
                ("scheduler", '"scheduler": "magic"'),
                ("scheduler", '"scheduler": "unipc"'),
                ("image", '"image": "ftp://there.test/a.png"'),
                ("mask", f'"image": "{PIXEL}", "mask": "x"'),
                ("mask", f'"mask": "{PIXEL}"'),
                ("strength", '"strength": 0.5'),
                ("strength", f'"image": "{PIXEL}", "strength": 0'),
                ("strength", f'"image": "{PIXEL}", "strength": 1.1'),
                ("output_format", '"output_format": "gif"'),
                ("priority", '"priority": 101'),
                ("deadline_s", '"deadline_s": 0'),
                ("deadline_s", '"deadline_s": 1e9'),
                ("deadline_s", '"deadline_s": NaN'),
                ("metadata", '"metadata": []'),
                ("metadata", '"metadata": {"a": NaN}'),
                ("metadata", '"metadata": {"a": [{"b": 1e400}]}'),
                ("metadata", '"metadata": {"a": "\\u0000"}'),
                ("metadata", '"metadata": {"\\u0000": 1}'),
                ("metadata", f'"metadata": {{"a": "{"x" * LIMIT_METADATA_BYTES}"}}'),
                ("webhook", '"webhook": "https://a.test"'),
                ("webhook.url", '"webhook": {"url": ""}'),
                ("webhook.url", '"webhook": {}'),
                ("webhook.secret", '"webhook": {"url": "https://a.test", "secret": "s"}'),
                ("webhook.events.0", '"webhook": {"url": "https://a.test", "events": ["job.x"]}'),
            ]
        ),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(body: str, field: str) -> None:
    """Each wrong value is refused, and the error names its field and no other."""
    with pytest.raises(InvalidRequest) as caught:
        full(body)
    assert [wrong.field for wrong in caught.value.fields] == [field]
    assert field in caught.value.detail
    assert len(caught.value.detail) < 500


def test_all_wrong_fields_are_named_at_once() -> None:
    """One error names every wrong field."""
    with pytest.raises(InvalidRequest) as caught:
        full({"prompt": "a", "width": 63, "height": 1024, "num_images": 99, "scheduler": "magic"})
    names = [wrong.field for wrong in caught.value.fields]
    assert names == ["width", "height", "num_images", "scheduler"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"a red circle",
        b"\xff",
        b"[" * 100_000,
        b'{"a": +1}',
        b'{"seed": %s}' % (b"1" * 5000),
    ],
)
def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    """A body that is not valid JSON has an error of its own."""
    with pytest.raises(InvalidJson, match="not valid JSON"):
        parse(body)


def test_a_body_has_a_limit() -> None:
    """A body of the size limit is parsed, and one byte more is refused."""
    envelope = len('{"prompt":""}')
    parse(b'{"prompt":"%s"}' % (b"x" * (LIMIT_BYTES - envelope)))
    with pytest.raises(TooLarge):
        parse(b'{"prompt":"%s"}' % (b"x" * (LIMIT_BYTES - envelope + 1)))


def test_the_limits_themselves_are_allowed() -> None:
    """A value equal to its limit is accepted."""
    stored = full({
        "prompt": "x" * 500, "width": 256, "height": 64, "num_inference_steps": 100,
        "num_images": 8, "seed": MAX_SEED - 8, "guidance_scale": 100,
    })  # fmt: skip
    assert stored["seed"] == MAX_SEED - 8


def test_the_error_for_an_unknown_model_lists_the_models() -> None:
    """The error names the models that the farm serves."""
    with pytest.raises(InvalidRequest) as caught:
        full({"prompt": "a", "model": "sdxl"})
    assert "scenes" in caught.value.fields[0].message


def test_a_queue_message_may_name_its_job() -> None:
    """A queue message may have the job's id, which must be a UUID."""
    name = "0199c0de-0000-7000-8000-000000000000"
    message = parse(json.dumps({"prompt": "a", "id": name}).encode(), QueueMessage)
    assert isinstance(message, QueueMessage)
    assert message.id == UUID(name)
    with pytest.raises(InvalidRequest) as caught:
        parse(b'{"prompt": "a", "id": "mine"}', QueueMessage)
    assert [wrong.field for wrong in caught.value.fields] == ["id"]


def test_equal_bodies_have_equal_digests() -> None:
    """The order of fields, white space, and 5 or 5.0 do not change the digest."""
    one = parse(b'{"prompt":"\\u00e9","guidance_scale":5,"metadata":{"a":1,"b":2}}')
    other = parse('{"metadata": {"b": 2, "a": 1}, "guidance_scale": 5.0, "prompt": "é"}'.encode())
    assert digest(one) == digest(other)
    assert len(digest(one)) == 32


@pytest.mark.parametrize("change", ['"seed": 1', '"prompt": "b"', '"metadata": {"a": 1}'])
def test_another_body_has_another_digest(change: str) -> None:
    """Any difference in a field changes the digest."""
    assert digest(parse(b'{"prompt": "a"}')) != digest(
        parse(f'{{"prompt": "a", {change}}}'.encode())
    )


def test_the_job_id_is_not_part_of_the_digest() -> None:
    """A request has the same digest with an id and without one."""
    named = b'{"prompt": "a", "id": "0199c0de-0000-7000-8000-000000000000"}'
    assert digest(parse(named, QueueMessage)) == digest(parse(b'{"prompt": "a"}'))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted(QueueMessage.model_fields))
BODIES = st.dictionaries(FIELDS | st.text(), VALUES).map(lambda b: {"prompt": "a", **b})


def stored_or_refused(body: bytes, form: type[JobRequest]) -> None:
    """Parse the body as `accept` does; an accepted body must be JSON that Postgres can store."""
    try:
        request = parse(body, form)
        stored = complete(request, CATALOG)
    except Refused:
        return
    text = json.dumps(stored, allow_nan=False)
    assert not re.search(r"(?<!\\)(\\\\)*\\u0000", text)
    assert digest(request) == digest(parse(body, form))


@given(st.binary(max_size=300), st.sampled_from([JobRequest, QueueMessage]))
def test_any_bytes_are_accepted_or_refused(body: bytes, form: type[JobRequest]) -> None:
    """For any bytes, `parse` returns a request or raises `Refused`."""
    stored_or_refused(body, form)


@given(BODIES, st.sampled_from([JobRequest, QueueMessage]))
def test_any_json_is_accepted_or_refused(body: dict[str, Any], form: type[JobRequest]) -> None:
    """For any values of the fields, the request is refused or can be stored."""
    stored_or_refused(json.dumps(body).encode(), form)


CATALOG_WITH_ADAPTERS = Catalog(
    {"scenes": replace(MODEL, loras={"ink": Path()}, controlnets={"edges": Path()})}
)


def full_with_adapters(body: dict[str, Any]) -> dict[str, Any]:
    """The body as it would be stored for a model with a LoRA and a ControlNet."""
    return complete(parse(json.dumps({"prompt": "x", **body}).encode()), CATALOG_WITH_ADAPTERS)


def test_a_request_may_use_the_models_adapters() -> None:
    """A LoRA without a scale gets 1.0; a ControlNet comes with its control image."""
    stored = full_with_adapters(
        {"loras": [{"name": "ink"}], "controlnet": "edges", "control_image": PIXEL}
    )
    assert stored["loras"] == [{"name": "ink", "scale": 1.0}]
    assert (stored["controlnet"], stored["controlnet_conditioning_scale"]) == ("edges", 1.0)
    assert (stored["reproducible"], full_with_adapters({"reproducible": True})["reproducible"]) == (
        False,
        True,
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"loras": [{"name": "oil"}]}, "loras"),
        ({"loras": [{"name": "ink"}, {"name": "ink", "scale": 0.5}]}, "loras"),
        ({"loras": [{"name": "ink", "scale": 9}]}, "loras.0.scale"),
        ({"loras": ["ink"]}, "loras.0"),
        ({"controlnet": "depth", "control_image": PIXEL}, "controlnet"),
        ({"controlnet": "edges"}, "control_image"),
        ({"control_image": PIXEL}, "controlnet"),
        ({"controlnet": "edges", "control_image": "ftp://x.example"}, "control_image"),
        ({"reproducible": 1}, "reproducible"),
    ],
)
def test_a_wrong_adapter_is_named(body: dict[str, Any], field: str) -> None:
    """The error names the field of an unknown adapter, a wrong scale, or an incomplete pair."""
    with pytest.raises(InvalidRequest) as refused:
        full_with_adapters(body)
    assert field in {fault.field for fault in refused.value.fields}
