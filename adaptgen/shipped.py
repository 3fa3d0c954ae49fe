"""Where the files lie that come with adaptgen: checkpoints, recipes and examples.

They are installed inside the package; in the source tree (and in an editable install of it) they stand beside
it.
"""

from __future__ import annotations

from pathlib import Path

from adaptgen.errors import RecipeError

__all__ = ["find_recipe", "find_shipped", "recipe_names", "shipped_folder"]


def shipped_folder(kind: str) -> Path:
    """The folder of what is shipped; may be missing.

    Args:
        kind: checkpoints, recipes or examples.
    """
    package = Path(__file__).parent
    installed, beside = package / kind, package.parent / kind
    is_source_tree = (package.parent / "pyproject.toml").is_file()
    return beside if is_source_tree and not installed.is_dir() else installed


def find_shipped(name: str) -> Path | None:
    """What is shipped under a path of the source tree, such as `examples/corpus`; None if nothing is."""
    kind, *rest = Path(name).parts or ("",)
    if kind not in ("checkpoints", "recipes", "examples") or ".." in rest:
        return None
    path = shipped_folder(kind).joinpath(*rest)
    return path if path.exists() else None


def recipe_names() -> list[str]:
    """Names of the shipped recipes: `music`, `shipped/music`."""
    folder = shipped_folder("recipes")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe, given as a path or as a shipped name, with or without `recipes/` and `.yaml`.

    Raises:
        RecipeError: there is none of either.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = name.removeprefix("recipes/").removesuffix(".yaml")
    if shipped in recipe_names():
        return shipped_folder("recipes") / f"{shipped}.yaml"
    if path.is_dir():
        raise RecipeError(f"{path} is a folder, not a recipe", "Give a YAML file; see `adaptgen recipes ls`")
    known = ", ".join(recipe_names()) or "none"
    raise RecipeError(f"there is no recipe {name!r}", f"Give a YAML file or one that is shipped: {known}")
