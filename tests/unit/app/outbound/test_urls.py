"""What a customer may write down as a webhook's URL."""

from __future__ import annotations

import pytest

from app.outbound.urls import ForbiddenUrl, Target, check_url, parse_url


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hooks?token=a%20b",
        "https://example.com:443/",
        "https://example.com:8443/hooks",
        "https://xn--bcher-kva.example/hooks",
        "https://under_score.example.com/",
        "https://example.com./",
        "https://8.8.8.8/hooks",
        "https://[2606:4700::1111]/hooks",
        "HTTPS://EXAMPLE.COM/Hooks",
    ],
)
def test_public_https_urls_pass(url: str) -> None:
    """An https URL of a public host is taken as it is."""
    check_url(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "visible ASCII"),
        ("example.com", "begin with"),
        ("//example.com/", "begin with"),
        ("http://example.com/", "begin with"),
        ("ftp://example.com/", "begin with"),
        ("file:///etc/passwd", "begin with"),
        ("gopher://example.com/", "begin with"),
        ("https://", "no host"),
        ("https:///hooks", "no host"),
        ("https:example.com", "no host"),
        ("https://user@example.com/", "user name"),
        ("https://user:password@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com\\@127.0.0.1/", "visible ASCII"),
        ("https://exa mple.com/", "visible ASCII"),
        ("https://example.com/\r\nX-Evil: 1", "visible ASCII"),
        ("https://example\n.com/", "visible ASCII"),
        ("https://bücher.example/", "xn-- form"),
        ("https://①②⑦.⓪.⓪.①/", "visible ASCII"),
        ("https://127%2e0.0.1/", "percent"),
        ("https://[fe80::1%25eth0]/", "percent"),
        ("https://[::1/", "cannot be read"),
        ("https://[zz]/", "cannot be read"),
        ("https://example.com:99999/", "cannot be read"),
        ("https://example.com:port/", "cannot be read"),
        ("https://example.com:0/", "port 0"),
        ("https://example.com:25/", "must have port"),
        ("https://example.com:80/", "must have port"),
        ("https://a..example.com/", "no host name"),
        ("https://-a.example.com/", "no host name"),
        (f"https://{'a' * 64}.example.com/", "no host name"),
        ("https://exa*mple.com/", "no host name"),
        (f"https://example.com/{'a' * 2048}", "longer than"),
        ("https://localhost/", "not public"),
        ("https://a.localhost./", "not public"),
        ("https://127.0.0.1/", "not public"),
        ("https://[::1]/", "not public"),
        ("https://2130706433/", "four decimal numbers"),
        ("https://0x7f.1/", "four decimal numbers"),
        ("https://127.0.0.01/", "four decimal numbers"),
        ("https://127.0.0.1./", "four decimal numbers"),
    ],
)
def test_other_urls_are_refused_with_the_reason(url: str, reason: str) -> None:
    """Each refused URL is refused for its own reason."""
    with pytest.raises(ForbiddenUrl, match=reason):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80/", "http://localhost:25/", "https://[::1]/", "http://10.0.0.1"]
)
def test_a_farm_of_ones_own_may_post_anywhere(url: str) -> None:
    """With allow_private, http and private hosts pass."""
    check_url(url, allow_private=True)


@pytest.mark.parametrize("url", ["ftp://localhost/", "http://a@localhost/", "http://127.1/"])
def test_a_farm_of_ones_own_still_wants_a_plain_url(url: str) -> None:
    """allow_private lifts the address rules, not the rules of form."""
    with pytest.raises(ForbiddenUrl):
        check_url(url, allow_private=True)


def test_a_url_is_taken_apart_for_sending() -> None:
    """Host, port, Host header and request target come from one parse; a fragment is not sent."""
    assert parse_url("https://Example.com:8443?a=1#top") == Target(
        scheme="https",
        host="example.com",
        port=8443,
        authority="Example.com:8443",
        path="/?a=1",
    )
