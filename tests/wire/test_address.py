"""Addresses are taken apart, or refused with a sentence that helps."""

import pytest

from dyno.wire.address import parse_address


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:7101", ("127.0.0.1", 7101)),
        ("localhost:1", ("localhost", 1)),
        ("db-1.example.org.:65535", ("db-1.example.org.", 65535)),
        ("my_service:7101", ("my_service", 7101)),
        ("a:7101", ("a", 7101)),
        ("[::1]:7101", ("::1", 7101)),
        ("[2001:db8::7]:80", ("2001:db8::7", 80)),
        ("[::ffff:10.0.0.1]:80", ("::ffff:10.0.0.1", 80)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_an_address_is_a_host_and_a_port(text, parsed):
    assert parse_address(text) == parsed


def test_port_0_is_for_those_who_listen():
    assert parse_address("127.0.0.1:0", lowest_port=0) == ("127.0.0.1", 0)
    with pytest.raises(ValueError, match="the port must be a number from 1 to 65535, not '0'"):
        parse_address("127.0.0.1:0")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'' is not HOST:PORT"),
        ("localhost", "'localhost' is not HOST:PORT"),
        (":7101", "':7101' is not HOST:PORT"),
        ("[::1]", "is not HOST:PORT"),
        ("localhost:", "the port must be a number from 1 to 65535, not ''"),
        ("localhost:http", "not 'http'"),
        ("localhost:65536", "not '65536'"),
        ("localhost:-1", "not '-1'"),
        ("localhost:+1", "not '\\+1'"),
        ("localhost: 1", "not ' 1'"),
        ("localhost:1\n", "not '1\\\\n'"),
        ("localhost:١", "not '١'"),
        ("localhost:0000001", "not '0000001'"),
        ("::1:7101", r"an IPv6 address goes in brackets, as in \[::1\]:7101"),
        ("[::1:7101", "an IPv6 address goes in brackets"),
        ("[::g]:7101", "'::g' is no IPv6 address"),
        ("[:::::]:7101", "':::::' is no IPv6 address"),
        ("[127.0.0.1]:7101", "'127.0.0.1' is no IPv6 address"),
        ("[]:7101", "'' is no IPv6 address"),
        ("[fe80::1%a\nb]:7101", "is no IPv6 address"),
        ("local host:1", "'local host' is neither a host name nor an address"),
        ("-v:1", "'-v' is neither"),
        (".:1", "'.' is neither"),
        ("a,b:1", "'a,b' is neither"),
        ("hôte:1", "'hôte' is neither"),
        ("http//a:1", "'http//a' is neither"),
        ("a" * 300 + ":1", "at most 255 characters, not 302"),
    ],
)
def test_anything_else_is_refused_with_a_reason(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_address(text)
