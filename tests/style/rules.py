"""The rules on one piece of source: each takes text or a syntax tree and returns findings, none when all is well."""

import ast
import re
from collections.abc import Iterator

FUNCTION_LINES_MAX = 70
MODULE_NAMES_REFUSED = frozenset(
    {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "base", "stuff", "processor"}
)
ASSERTING_CALLS = frozenset({"raises", "warns", "fail", "approx", "deprecated_call"})
ASSERTING_PREFIXES = ("assert_", "expect_")
WAITING_PREFIXES = ("wait_", "eventually", "until_")
Function = ast.FunctionDef | ast.AsyncFunctionDef

# Written with a class for one letter each, so that this file is no finding of its own.
UNFINISHED = re.compile(r"\b(T[O]DO|F[I]XME|X[X]X|H[A]CK)\b")
REGISTRY_HOSTS = re.compile(
    r"p[y]pi\.org|p[y]thonhosted\.org|registry\.n[p]mjs|repo1?\.maven\.|proxy\.g[o]lang|(static\.)?c[r]ates\.io|deb\.d[e]bian",
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(w[o]rk|r[o]ot|h[o]me/\w+|U[s]ers/\w+|opt/w[h]eels)(/|\b)")
DOWNLOAD_ADDRESS = re.compile(r"://|--(extra-)?index-url|--find-links|--trusted-host|^-f |^-i | @ ")


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def long_functions(tree: ast.Module) -> list[str]:
    """Functions over the limit; the docstring does not count, explaining is free."""
    found = []
    for function in functions(tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        first = function.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            lines -= (first.end_lineno or first.lineno) - first.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            found.append(
                f"{function.lineno}: {function.name} has {lines} lines (at most {FUNCTION_LINES_MAX}): "
                "a table or a function of its own is missing"
            )
    return found


def called_name(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    target = node.func
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""


def says_something(function: Function) -> bool:
    for node in ast.walk(function):
        name = called_name(node)
        if isinstance(node, ast.Assert) or name in ASSERTING_CALLS or name.startswith(ASSERTING_PREFIXES):
            return True
    return False


def tests_without_assertion(tree: ast.Module) -> list[str]:
    return [
        f"{function.lineno}: {function.name} asserts nothing"
        for function in functions(tree)
        if function.name.startswith("test_") and not says_something(function)
    ]


def sleeps(tree: ast.Module) -> list[str]:
    """Pauses in tests, but for `asyncio.sleep(0)` and the polling inside a function called wait_… or eventually…"""
    waiting = {
        id(node)
        for function in functions(tree)
        if function.name.startswith(WAITING_PREFIXES)
        for node in ast.walk(function)
    }
    found = []
    for node in ast.walk(tree):
        if called_name(node) != "sleep" or id(node) in waiting or not isinstance(node, ast.Call):
            continue
        if node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0:
            continue
        found.append(f"{node.lineno}: sleep in a test: wait for an event or a condition, with a bound (wait_…)")
    return found


def lock_findings(text: str) -> list[str]:
    """A lock of pip-compile: every requirement pinned and with a hash, and not a word on where to download it."""
    found = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found += [f"download address: {line}" for line in lines if DOWNLOAD_ADDRESS.search(line)]
    for requirement in "\n".join(lines).replace("\\\n", " ").splitlines():
        if requirement.strip() and ("==" not in requirement or "--hash=sha256:" not in requirement):
            found.append(f"no pin or no hash: {requirement[:80]}")
    return found


def pins(text: str) -> dict[str, str]:
    """Package → version of a lock."""
    return dict(re.findall(r"^([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?==(\S+)", text, re.MULTILINE))


def normalised(requirement: str) -> str:
    """The package's name in a requirement, as PEP 503 compares it."""
    name = re.match(r"[A-Za-z0-9][\w.-]*", requirement.strip())
    return re.sub(r"[-_.]+", "-", name.group()).lower() if name else ""
