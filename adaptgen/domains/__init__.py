"""Discovery of domains: every folder here that has a `DOMAIN`."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from adaptgen.domains.base import Domain
from adaptgen.errors import InputFileError, RecipeError

__all__ = ["for_file", "get", "names"]


def names() -> list[str]:
    """Names of all domains."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)


def get(name: str) -> Domain:
    """The domain of a name.

    Raises:
        RecipeError: there is none.
    """
    if name not in names():
        raise RecipeError(f"there is no domain {name!r}", f"Domains are: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").DOMAIN


def for_file(path: Path) -> Domain:
    """The domain that reads a file, by its suffix.

    Raises:
        InputFileError: none does.
    """
    known = []
    for name in names():
        domain = get(name)
        if path.name.lower().endswith(domain.suffixes):
            return domain
        known += domain.suffixes
    raise InputFileError(
        f"{path} has the suffix {path.suffix!r}, which nothing here reads",
        f"Files that are read: {', '.join(known)}",
    )
