"""Loopback only, and shards."""

import asyncio
import socket

import pytest

from infrastructure.loopback_only import NetworkRefused, allowed
from infrastructure.shards import parse_shard, shard_of

# TEST-NET-1 (RFC 5737): documentation only, nobody is there.
ELSEWHERE = ("192.0.2.1", 9)


def test_a_connection_that_leaves_the_machine_is_refused() -> None:
    with socket.socket() as client, pytest.raises(NetworkRefused, match=r"192\.0\.2\.1"):
        client.connect(ELSEWHERE)


async def test_asyncio_is_guarded_too() -> None:
    with pytest.raises(NetworkRefused):
        await asyncio.open_connection(*ELSEWHERE)


def test_a_datagram_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, pytest.raises(NetworkRefused):
        client.sendto(b"", ELSEWHERE)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("database.example", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("other.example", False),
    ],
)
def test_what_is_allowed(host: str, expected: bool) -> None:
    assert allowed(host, frozenset({"database.example"})) is expected


def test_every_test_is_in_one_shard() -> None:
    ids = [f"tests/test_a.py::test_{number}" for number in range(200)]
    shards = {shard_of(node_id, 4) for node_id in ids}
    assert shards == {1, 2, 3, 4}


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "a/b"])
def test_a_bad_shard_is_named(text: str) -> None:
    with pytest.raises(pytest.UsageError, match="2/8"):
        parse_shard(text)


def test_a_good_shard() -> None:
    assert parse_shard("2/8") == (2, 8)
