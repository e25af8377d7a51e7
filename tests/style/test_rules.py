"""The rules see what they are made for."""

import ast

import pytest

from style import rules


def test_a_long_function_is_found_and_its_docstring_is_free() -> None:
    body = "    x = 1\n" * rules.FUNCTION_LINES_MAX
    assert rules.long_functions(ast.parse(f"def f():\n{body}")) != []
    explained = '    """a\n' + "    b\n" * 100 + '    """\n    return 1\n'
    assert rules.long_functions(ast.parse(f"def f():\n{explained}")) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def test_a(): run()", 1),
        ("async def test_a(): await run()", 1),
        ("def test_a(): assert 1", 0),
        ("def test_a():\n  with pytest.raises(E): run()", 0),
        ("def test_a(): expect_equal(1, 1)", 0),
        ("def run(): pass", 0),
    ],
)
def test_a_test_that_asserts_nothing_is_found(source: str, count: int) -> None:
    assert len(rules.tests_without_assertion(ast.parse(source))) == count


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("def test_a(): time.sleep(1)", 1),
        ("async def test_a(): await asyncio.sleep(0.1)", 1),
        ("async def test_a(): await asyncio.sleep(0)", 0),
        ("async def wait_for(x):\n  while not x(): await asyncio.sleep(0.01)", 0),
    ],
)
def test_a_sleep_is_found(source: str, count: int) -> None:
    assert len(rules.sleeps(ast.parse(source))) == count


def test_a_lock_needs_hashes_and_no_addresses() -> None:
    good = (
        "# --index-url is mentioned in a comment\nfastapi==1.0 \\\n    --hash=sha256:00\n    # via -r requirements.in\n"
    )
    assert rules.lock_findings(good) == []
    assert rules.pins(good) == {"fastapi": "1.0"}
    for bad in (
        "fastapi==1.0\n",
        "fastapi>=1 --hash=sha256:0\n",
        f"--find-links wheels\n{good}",
        f"a @ file:x\n{good}",
    ):
        assert rules.lock_findings(bad) != []


@pytest.mark.parametrize("text", ["see /ro" + "ot/x", "cd /wo" + "rk", "'/ho" + "me/ann/x'"])
def test_a_machine_path_is_found(text: str) -> None:
    assert rules.MACHINE_PATHS.search(text)


@pytest.mark.parametrize("text", ["frame/work", "https://a.example/root", "./work", "/workers", "/auth/v1"])
def test_a_path_of_ours_is_no_machine_path(text: str) -> None:
    assert not rules.MACHINE_PATHS.search(text)


def test_names_compare_as_packages_do() -> None:
    assert rules.normalised("SQLAlchemy[asyncio]>=2") == "sqlalchemy"
    assert rules.normalised("opentelemetry_api") == "opentelemetry-api"
