"""Reading RENDERFARM_CDN."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config.cdn import Cdn, read_cdn
from app.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "cdn"),
    [
        (
            '{"kind": "cloudfront", "url": "https://x/", "key_id": "K", "key_file": "/k.pem"}',
            Cdn("cloudfront", "https://x", "K", Path("/k.pem"), "canned"),
        ),
        (
            (
                '{"kind": "cloudcdn", "url": "https://x", "key_name": "k", "key_file": "/k",'
                ' "policy": "prefix"}'
            ),
            Cdn("cloudcdn", "https://x", "k", Path("/k"), "prefix"),
        ),
        ('{"kind": "frontdoor", "url": "https://x"}', Cdn("frontdoor", "https://x")),
    ],
)
def test_each_kind_is_read(text: str, cdn: Cdn) -> None:
    """Each kind has its own keys; a policy that is not given is the first of its kind."""
    assert read_cdn(text) == cdn


@pytest.mark.parametrize("text", ["7", '{"kind": []}', '{"kind": null}', '{"url": "https://x"}'])
def test_a_setting_without_a_known_kind_is_refused(text: str) -> None:
    """The error lists the kinds."""
    with pytest.raises(SettingsError, match=r"^RENDERFARM_CDN must be .* cloudfront, cloudcdn"):
        read_cdn(text)


def test_an_error_shows_no_value() -> None:
    """An error names wrong keys, but repeats neither a URL nor a key's name."""
    text = '{"kind": "cloudcdn", "url": "http://u:hunter2@x", "key_name": 7, "policy": "hunter2"}'
    with pytest.raises(SettingsError) as caught:
        read_cdn(text)
    assert str(caught.value).splitlines() == [
        "RENDERFARM_CDN.url must begin with https://",
        "RENDERFARM_CDN.key_name must be a text",
        "RENDERFARM_CDN.key_file is missing",
        "RENDERFARM_CDN.policy must be 'url' or 'prefix'",
    ]
