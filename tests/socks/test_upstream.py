"""Proxies as people name them."""

from __future__ import annotations

import pytest

from netnet.errors import AddressError
from netnet.socks.client import Proxy, connect, parse_proxy

URLS = [
    ("socks5://127.0.0.1", Proxy("socks5", "127.0.0.1:1080"), "socks5://127.0.0.1:1080"),
    ("SOCKS5H://Gate.test:9/", Proxy("socks5h", "Gate.test:9"), "socks5h://Gate.test:9"),
    ("socks4://fred@[::1]", Proxy("socks4", "[::1]:1080", "fred"), "socks4://fred@[::1]:1080"),
    ("socks4a://[::1]:7", Proxy("socks4a", "[::1]:7"), "socks4a://[::1]:7"),
    ("http://gate", Proxy("http", "gate:3128"), "http://gate:3128"),
    ("http://fred:@gate:80", Proxy("http", "gate:80", "fred", ""), "http://fred@gate:80"),
    ("socks5://a%3Ab:c%40d%25@h:1", Proxy("socks5", "h:1", "a:b", "c@d%"), "socks5://a%3Ab@h:1"),
    ("socks5://a:b:c@h:1", Proxy("socks5", "h:1", "a", "b:c"), "socks5://a@h:1"),
    ("socks5h://unix:/run/p.sock", Proxy("socks5h", "unix:/run/p.sock"), "socks5h://unix:/run/p.sock"),
    ("socks5h://unix:@p", Proxy("socks5h", "unix:@p"), "socks5h://unix:@p"),
    ("socks5h://a:b@unix:@p", Proxy("socks5h", "unix:@p", "a", "b"), "socks5h://a@unix:@p"),
    ("socks5://a:%C3%A4@h:1", Proxy("socks5", "h:1", "a", "ä"), "socks5://a@h:1"),
]


@pytest.mark.parametrize(("url", "proxy", "text"), URLS)
def test_urls(url, proxy, text):
    assert parse_proxy(url) == proxy
    assert parse_proxy(proxy) is proxy
    assert str(proxy) == text
    assert repr(proxy.password) not in repr(proxy) or proxy.password is None


BAD_URLS = [
    ("127.0.0.1:1080", "begins with none of socks4://"),
    ("fred:secret@host:1080", "begins with none of"),
    ("socks://host", "begins with none of"),
    ("https://fred:secret@host", "TLS to a proxy is not spoken"),
    ("socks5://", "has a host"),
    ("socks5://:1080", "has a host"),
    ("socks5://fred:secret@", "has a host"),
    ("socks5://fred:secret", "the port"),
    ("socks5://host:0", "the port"),
    ("socks5://host:65536", "the port"),
    ("socks5://host:", "the port"),
    ("socks5://::1:1080", "brackets"),
    ("socks5://fred:secret@::1", "brackets"),
    ("socks5://[::1", "brackets"),
    ("socks5://[host]:1", "brackets"),
    ("socks5://[::1]1080", "brackets"),
    ("socks5://host:1080/path", "nothing stands behind"),
    ("socks5://host?x", "nothing stands behind"),
    ("socks5://fred:se@cret@host:1080", "%40"),
    ("socks5://fred@host", "SOCKS5 wants a user name and a password"),
    ("socks5://:secret@host", "SOCKS5 wants"),
    ("socks5://fred:@host", "SOCKS5 wants"),
    (f"socks5://fred:secret{'x' * 250}@host", "SOCKS5 wants"),
    ("socks4://fred:secret@host", "SOCKS4 has no passwords"),
    (f"socks4://{'x' * 256}@host", "255 bytes"),
    ("http://a%3Ab:secret@host", "colon"),
    ("http://fred:secret%0a@host", "control characters"),
    ("socks5://ho st", "spaces"),
    ("socks5://unix:", "path"),
    (None, "a URL or a Proxy"),
]


@pytest.mark.parametrize(("url", "message"), BAD_URLS)
def test_what_is_no_url(url, message):
    with pytest.raises(AddressError, match=message) as caught:
        connect("host:80", via=[url])
    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)
    assert caught.value.__context__ is None or "secret" not in str(caught.value.__context__)


@pytest.mark.parametrize("via", [[], ["socks5://h"] * 9, ["socks5://h", "socks5://unix:/run/x"]])
def test_what_is_no_chain(via):
    with pytest.raises(AddressError):
        connect("host:80", via=via)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("socks6", "host:1"), "no kind of proxy"),
        (("socks5", "host:0"), "a port from 1 to 65535"),
        (("socks5", ":1080"), "a host"),
        (("socks5", "host"), "has no port"),
        (("http", "host:1", None, "secret"), "a password needs a user name"),
        (("http", "host:1", "fred", "secret" * 100), "510 bytes"),
        (("http", "host:1", "fr\ted"), "control characters"),
        (("socks4", "host:1", "fr\0ed"), "NUL"),
    ],
)
def test_what_is_no_proxy(arguments, message):
    with pytest.raises(AddressError, match=message) as caught:
        Proxy(*arguments)
    assert "secret" not in str(caught.value)
