"""Check the limits of the house: ``make lint`` runs this; it prints each breach and exits with 1 if there is any.

Functions hold at most 50 lines (docstrings and comments aside) and take at most 10 parameters; public functions and
constructors may take more options by keyword. Files hold at most 400 lines of at most 120 columns. The modules of
``src/`` import each other without circles, and arrows between the rooms point one way.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FUNCTION_LINES, PARAMETERS, FILE_LINES, COLUMNS = 50, 10, 400, 120
SOURCES = {".py", ".pyi", ".pyx", ".pxd", ".h", ".c"}
FOLDERS = ("src", "ext", "tests", "bench", "examples", "devel")
FORBIDDEN = {"divergence": {"tsne"}, "streaming": {"tsne"}, "readers": {"tsne"}}
"""What the modules of a room may not import."""


EMBEDDED = re.compile(r'cdef extern from \*[^\n]*:\n\s*"""(.*?)"""', re.S)
"""C that stands in a Cython file."""

CYTHON_FUNCTION = re.compile(
    r"^( *)(?:cdef|cpdef|def)\b(?! extern| struct| enum| class)[^\n(=]*?(\w+)(?:\[[^\]]*\])?\(", re.M
)
"""The head of a function, with its indentation and its name."""


def files(*folders: str) -> Iterator[Path]:
    """Yield every source file of the folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SOURCES and not {"__pycache__", "build"} & set(path.parts):
                yield path


def check_pages() -> Iterator[str]:
    """Files and lines that are too long."""
    for path in files(*FOLDERS):
        lines = path.read_text().splitlines()
        if len(lines) > FILE_LINES:
            yield f"{path}: {len(lines)} lines, at most {FILE_LINES}"
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS:
                yield f"{path}:{number}: {len(line)} columns, at most {COLUMNS}"


def check_function(place: str, name: str, n_lines: int, n_parameters: int) -> Iterator[str]:
    """One function's size."""
    if n_lines > FUNCTION_LINES:
        yield f"{place}: {name} has {n_lines} lines, at most {FUNCTION_LINES}"
    if n_parameters > PARAMETERS:
        yield f"{place}: {name} takes {n_parameters} parameters, at most {PARAMETERS}"


# ---- Python -------------------------------------------------------------------------------------


def python_parameters(node: ast.FunctionDef, public: bool) -> int:
    """Count parameters; those of public functions by position only, without ``self`` and ``cls``."""
    given = [
        argument.arg for argument in [*node.args.posonlyargs, *node.args.args] if argument.arg not in ("self", "cls")
    ]
    return len(given) + (0 if public else len(node.args.kwonlyargs))


def python_lines(node: ast.FunctionDef, lines: list[str]) -> int:
    """Count the lines of a function without its docstring and comments."""
    skipped = {n for n in range(node.lineno, node.end_lineno + 1) if lines[n - 1].lstrip().startswith("#")}
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        skipped |= set(range(first.lineno, first.end_lineno + 1))
    return node.end_lineno - node.lineno + 1 - len(skipped)


def check_python() -> Iterator[str]:
    """Functions of ``src/`` and of the rest of the house."""
    for path in files("src", "tests", "bench", "examples", "devel"):
        if path.suffix != ".py":
            continue
        text = path.read_text()
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                public = not node.name.startswith("_") or node.name in ("__init__", "__new__", "__call__")
                yield from check_function(
                    f"{path}:{node.lineno}", node.name, python_lines(node, lines), python_parameters(node, public)
                )


# ---- Cython and C -------------------------------------------------------------------------------


def split_parameters(text: str) -> int:
    """Count the parameters between two parentheses; commas within brackets do not part them."""
    text = re.sub(r"#.*|/\*.*?\*/", "", text)
    depth, count = 0, 1
    for character in text:
        depth += character in "([{"
        depth -= character in ")]}"
        count += character == "," and depth == 0
    stripped = text.strip()
    return 0 if stripped in ("", "void") else count - stripped.endswith(",")


def closing(text: str, start: int) -> int:
    """Return the place of the bracket that closes the one at ``start``."""
    pairs = {"(": ")", "{": "}"}
    opened, closed, depth = text[start], pairs[text[start]], 0
    for place in range(start, len(text)):
        depth += text[place] == opened
        depth -= text[place] == closed
        if depth == 0:
            return place
    return len(text) - 1


def check_cython(path: Path) -> Iterator[str]:
    """Functions of a ``.pyx`` or ``.pxd``, whose bodies are what is indented more than they are."""
    text = re.sub(
        r'(cdef extern from \*.*?:\n\s*)""".*?"""', lambda m: re.sub(r"[^\n]", "", m[0]), path.read_text(), flags=re.S
    )
    lines = text.splitlines()
    for match in re.finditer(
        r"^( *)(?:cdef|cpdef|def)\b(?! extern| struct| enum| class)[^\n(=]*?(\w+)(?:\[[^\]]*\])?\(", text, re.M
    ):
        first, end = text.count("\n", 0, match.start()), closing(text, match.end() - 1)
        indent, last = len(match[1]), text.count("\n", 0, end)
        body = last + 1
        while body < len(lines) and (not lines[body].strip() or len(lines[body]) - len(lines[body].lstrip()) > indent):
            last = body if lines[body].strip() else last
            body += 1
        code = re.sub(r'""".*?"""', "", "\n".join(lines[first : last + 1]), flags=re.S).splitlines()
        n_lines = sum(not line.lstrip().startswith("#") for line in code)
        yield from check_function(f"{path}:{first + 1}", match[2], n_lines, split_parameters(text[match.end() : end]))


def check_c(path: Path, text: str, offset: int) -> Iterator[str]:
    """Functions and macros of C."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    for match in re.finditer(r"^[^\S\n]*(?!#|else|return)[\w*][^\n;{}#]*?\b([\w]+(?:\(\w+\))?)\(", text, re.M):
        end = closing(text, match.end() - 1)
        opened = re.match(r"\s*\{", text[end + 1 :])
        if match[1] in ("if", "for", "while", "switch", "KB", "__attribute__") or not opened:
            continue
        body_end = closing(text, end + opened.end())
        n_lines = sum(bool(line.strip()) for line in text[match.start() : body_end + 1].splitlines())
        place = f"{path}:{offset + text.count(chr(10), 0, match.start()) + 1}"
        yield from check_function(place, match[1], n_lines, split_parameters(text[match.end() : end]))
    for match in re.finditer(r"^[^\S\n]*#define (\w+)(\([^)]*\))?(?:.*\\\n)+.*", text, re.M):
        place = f"{path}:{offset + text.count(chr(10), 0, match.start()) + 1}"
        parameters = split_parameters((match[2] or "()")[1:-1])
        yield from check_function(place, match[1], match[0].count("\n") + 1, parameters)


def check_kernels() -> Iterator[str]:
    """Functions of ``ext/``: Cython, headers, and C that stands in Cython files."""
    for path in files("ext"):
        text = path.read_text()
        if path.suffix in (".h", ".c"):
            yield from check_c(path, text, 0)
            continue
        yield from check_cython(path)
        for match in EMBEDDED.finditer(text):
            yield from check_c(path, match[1].replace("\\\\\n", "\\\n"), text.count("\n", 0, match.start(1)))


# ---- Imports ------------------------------------------------------------------------------------


def imported(path: Path, modules: set[str]) -> set[str]:
    """Return the modules of the package that one module imports, anywhere but for type checkers alone."""
    package = list(path.relative_to(ROOT / "src").with_suffix("").parts)[:-1]
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            inner = {f"{name}.{alias.name}" for alias in node.names}
            found |= inner & modules or {name}
            if not inner <= modules:
                found.add(name)
    return found & modules


def check_imports() -> Iterator[str]:
    """Circles of imports, and arrows that point the wrong way."""
    names = {}
    for path in files("src"):
        if path.suffix == ".py":
            parts = path.relative_to(ROOT / "src").with_suffix("").parts
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {name: imported(path, set(names)) - {name} for name, path in names.items()}
    for name, targets in graph.items():
        room = f"{name}.".split(".")[1]
        for target in targets:
            if f"{target}.".split(".")[1] in FORBIDDEN.get(room, set()) | ({"reference"} - {room}):
                yield f"{name} may not import {target}"
    while leaves := {name for name, targets in graph.items() if not targets & set(graph)}:
        graph = {name: targets for name, targets in graph.items() if name not in leaves}
    roots = set(graph)
    while outer := {name for name in roots if not any(name in graph[other] for other in roots)}:
        roots -= outer
    if roots:
        yield f"circle of imports: {', '.join(sorted(roots))}"


def main() -> int:
    """Print every breach; return 1 if there is one."""
    breaches = [*check_pages(), *check_python(), *check_kernels(), *check_imports()]
    for breach in breaches:
        print(breach.replace(f"{ROOT}/", ""))
    print(f"{len(breaches)} breaches of the house's limits" if breaches else "The house keeps its limits.")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main())
