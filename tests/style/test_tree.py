"""The house style, on every file of the repository. Each finding says where and what to do instead."""

import re
from pathlib import Path

import pytest

from style import rules, tree

SERVICE_FILES_REQUIRED = frozenset(
    {"__init__.py", "__main__.py", "module.py", "settings.py", "access.py", "core", "use_cases", "py.typed"}
)
SERVICE_FILES_OPTIONAL = frozenset({"api.py", "api", "consumers.py", "ports.py", "adapters", "migrations"})
LOCKS = ("requirements.lock", "requirements-dev.lock")


def children(directory: Path) -> set[str]:
    return {path.parts[len(directory.parts)] for path in tree.files() if path.is_relative_to(directory)}


def is_test(path: Path) -> bool:
    """A use case may be called test_connection.py too: tests lie in a directory tests."""
    return path.name.startswith("test_") and "tests" in path.parts


@pytest.mark.parametrize("service", tree.services(), ids=str)
def test_every_service_has_the_same_file_names(service: Path) -> None:
    found = children(tree.source_of(service))
    assert SERVICE_FILES_REQUIRED - found == set(), "missing"
    assert found - SERVICE_FILES_REQUIRED - SERVICE_FILES_OPTIONAL == set(), "no such name in a service"
    assert len({"api.py", "api"} & found) == 1, "either api.py or the package api"


@pytest.mark.parametrize("package", tree.packages(), ids=str)
def test_every_package_is_whole(package: Path) -> None:
    source = tree.source_of(package)
    assert {"__init__.py", "py.typed"} <= children(source)
    assert "tests" in children(package), "tests mirror the package"
    description = tree.toml(package / "pyproject.toml")["project"]
    assert description["requires-python"] == ">=3.11"


def test_the_tools_know_every_package() -> None:
    tools = tree.toml(Path("pyproject.toml"))["tool"]
    names = {tree.source_of(package).name for package in tree.packages()}
    assert names <= set(tools["importlinter"]["root_packages"])
    assert {str(package / "src") for package in tree.packages()} <= set(tools["mypy"]["mypy_path"])
    assert names <= set(tools["ruff"]["lint"]["isort"]["known-first-party"])


def test_what_packages_depend_on_is_resolved_in_the_lock() -> None:
    ours = {rules.normalised(tree.toml(path / "pyproject.toml")["project"]["name"]) for path in tree.packages()}
    locked = {rules.normalised(name) for name in rules.pins((tree.ROOT / LOCKS[0]).read_text("utf-8"))}
    unresolved = {
        f"{path}: {requirement}"
        for path in tree.packages()
        for requirement in tree.toml(path / "pyproject.toml")["project"].get("dependencies", [])
        if rules.normalised(requirement) not in ours | locked
    }
    assert unresolved == set(), "add it to requirements.in and resolve the locks"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_no_download_addresses(lock: str) -> None:
    assert rules.lock_findings((tree.ROOT / lock).read_text("utf-8")) == []


def test_the_locks_agree() -> None:
    runtime, development = (rules.pins((tree.ROOT / lock).read_text("utf-8")) for lock in LOCKS)
    assert len(runtime) > 10
    assert {name: development.get(name) for name in runtime} == runtime


def test_modules_are_named_for_a_noun_or_a_verb() -> None:
    names = {path: set(path.with_suffix("").parts) for path, _ in tree.modules()}
    found = [str(path) for path, parts in names.items() if parts & rules.MODULE_NAMES_REFUSED]
    assert found == [], "name the noun (escape.py) or the verb (replay_message.py)"


def test_functions_are_short() -> None:
    found = [f"{path}:{finding}" for path, module in tree.modules() for finding in rules.long_functions(module)]
    assert found == []


def test_every_test_asserts_something() -> None:
    found = [
        f"{path}:{finding}"
        for path, module in tree.modules()
        if is_test(path)
        for finding in rules.tests_without_assertion(module)
    ]
    assert found == []


def test_tests_do_not_sleep() -> None:
    found = [
        f"{path}:{finding}" for path, module in tree.modules() if is_test(path) for finding in rules.sleeps(module)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (rules.UNFINISHED, "finish it, or open an issue"),
        (rules.REGISTRY_HOSTS, "packages come by name from the client's own settings"),
        (rules.MACHINE_PATHS, "no path of one machine"),
    ],
    ids=["unfinished", "registry-hosts", "machine-paths"],
)
def test_no_text_holds(pattern: re.Pattern[str], instead: str) -> None:
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for path, text in tree.texts()
        for match in pattern.finditer(text)
    ]
    assert found == [], instead


def test_links_between_documents_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(?:#[^)]*)?\)")
    found = [
        f"{path}: {target}"
        for path, text in tree.texts()
        if path.suffix == ".md"
        for target in link.findall(text)
        if not (tree.ROOT / path.parent / target).exists()
    ]
    assert found == []


def test_make_targets_named_in_documents_exist() -> None:
    makefile = (tree.ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        target: path
        for path, text in tree.texts()
        if path.suffix == ".md"
        for target in re.findall(r"(?:`|^\s*\$?\s*)make ([a-z-]+)", text, re.MULTILINE)
    }
    assert targets >= {
        "help",
        "setup",
        "run",
        "test",
        "check",
        "format",
        "docs",
        "bench",
        "proof",
        "up",
        "down",
        "clean",
    }
    assert {f"{path}: make {target}" for target, path in named.items() if target not in targets} == set()
