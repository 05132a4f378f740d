"""Addresses as users write them."""

from __future__ import annotations

import pytest

from pyruntime import InvalidInput
from pyruntime.frontends.address import parse_address


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("127.0.0.1:8001", "127.0.0.1:8001"),
        ("localhost:0", "localhost:0"),
        ("[::1]:65535", "[::1]:65535"),
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:///run/a.sock", "unix:/run/a.sock"),
        ("unix:a.sock", "unix:a.sock"),
    ],
)
def test_address_reads_back(text: str, read: str) -> None:
    assert str(parse_address(text)) == read


@pytest.mark.parametrize(
    "text",
    [
        *("", ":8001", "localhost", "localhost:", "localhost:x", "localhost:65536", "h:-1"),
        *("localhost:\u0661", "unix:", "unix:/" + "a" * 107),
    ],
)
def test_address_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_address(text)
    assert f"address {text!r}: expected" in str(caught.value)
