"""Print the lowest versions that pyproject.toml allows as constraints for pip: ``make test-oldest`` installs them."""

import itertools
import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
GROUPS = ("build", "test")


def main() -> None:
    """Print ``name==version`` for each ``name>=version`` of the package, of its extras and of the groups."""
    settings = tomllib.loads(PYPROJECT.read_text())
    project = settings["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    lists += [settings["dependency-groups"][group] for group in GROUPS]
    pins = set()
    for requirement in itertools.chain(*lists):
        name, version = re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\d.]+)", requirement).groups()
        pins.add(f"{name}=={version}")
    print(*sorted(pins), sep="\n")


if __name__ == "__main__":
    main()
