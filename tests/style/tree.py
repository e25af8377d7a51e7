"""What lies in the repository: its files, packages and parsed modules. No git is needed (a fresh machine has none)."""

import ast
import os
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NOT_OURS = frozenset(
    {".git", ".venv", ".cache", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis"}
    | {"node_modules", "build", "dist"}
)
# What a run writes, by default in the checkout.
NOT_OURS_AT_ROOT = frozenset({"data", ".venv.log"})
TEXT_BYTES_MAX = 2_000_000


@cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, sorted, relative to its root."""
    found = []
    for directory, names, file_names in os.walk(ROOT):
        here = Path(directory).relative_to(ROOT)
        names[:] = [name for name in names if not left_out(here, name)]
        found += [here / name for name in file_names if not left_out(here, name)]
    return tuple(sorted(found))


def left_out(directory: Path, name: str) -> bool:
    return name in NOT_OURS or name.endswith(".egg-info") or (directory == Path() and name in NOT_OURS_AT_ROOT)


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file with its contents; files that are no UTF-8 text are passed over."""
    for path in files():
        if (ROOT / path).stat().st_size > TEXT_BYTES_MAX:
            continue
        try:
            yield path, (ROOT / path).read_text("utf-8")
        except UnicodeDecodeError:
            continue


@cache
def modules() -> tuple[tuple[Path, ast.Module], ...]:
    """Every Python file, parsed."""
    paths = [path for path in files() if path.suffix == ".py"]
    return tuple((path, ast.parse((ROOT / path).read_text("utf-8"), filename=str(path))) for path in paths)


@cache
def packages() -> tuple[Path, ...]:
    """Directories of the installable packages, relative to the root."""
    return tuple(path.parent for path in files() if path.name == "pyproject.toml" and path.parent != Path())


@cache
def services() -> tuple[Path, ...]:
    return tuple(path for path in packages() if path.parts[0] == "services")


def source_of(package: Path) -> Path:
    """The import package inside an installable package: services/hl7-gateway → services/hl7-gateway/src/hl7_gateway."""
    return package / "src" / package.name.replace("-", "_")


def toml(path: Path) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text("utf-8"))
