"""pytest plugin: `--shard 2/8` keeps the second of eight parts of the tests.

The part depends on the test's own id only, so a shard that was done stays done when a run is resumed.
"""

import zlib

import pytest


def parse_shard(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise pytest.UsageError(f"--shard {text}: write it as 2/8, counted from 1")
    return int(number), int(count)


def shard_of(node_id: str, count: int) -> int:
    return zlib.crc32(node_id.encode()) % count + 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", metavar="N/COUNT", help="run one part of the tests, for example 2/8")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    text = config.getoption("--shard")
    if text is None:
        return
    number, count = parse_shard(text)
    left_out = [item for item in items if shard_of(item.nodeid, count) != number]
    items[:] = [item for item in items if shard_of(item.nodeid, count) == number]
    config.hook.pytest_deselected(items=left_out)
