"""Recipes read from YAML, with what is wrong in them said in one sentence.

A recipe is one complete YAML file. `load_recipe` reads it, applies `key.path=value` overrides and checks all of it
against the schema in `adaptgen.config`; a mistake names the key, the value and the nearest valid key.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from adaptgen.config import Recipe, Settings
from adaptgen.errors import RecipeError

__all__ = ["load_recipe"]

SHOWN = reprlib.Repr()
"""Writes values in sentences, of which aliases can make very large ones out of a few lines of YAML."""
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxlong, SHOWN.maxother = 2, 100, 100, 100


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A mapping has a key twice."""


class _YamlLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which the last would count without a word, and what contains itself."""

    def __init__(self, stream: str | bytes) -> None:
        super().__init__(stream)
        self._around: list[str] = []
        """Anchors of what the node to be read next is in."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        anchor = self.peek_event().anchor
        if self.check_event(yaml.AliasEvent) and anchor in self._around:
            raise yaml.composer.ComposerError(
                problem=f"*{anchor} stands inside of what it stands for", problem_mark=self.peek_event().start_mark
            )
        self._around.append(anchor)
        node = super().compose_node(parent, index)
        self._around.pop()
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        # What only says that it is a mapping is refused below.
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise _RepeatedKeyError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _read_yaml(text: str | bytes) -> Any:
    """What a text in YAML says.

    Raises:
        yaml.YAMLError: it is none, or a value is not what its tag or its looks say, such as a date without a day.
    """
    try:
        return yaml.load(text, _YamlLoader)
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError) as error:
        raise yaml.MarkedYAMLError(problem=str(error)) from None


def load_recipe(path: Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe.

    Args:
        path: the YAML file.
        overrides: `key.path=value` strings; the value is read as YAML.

    Returns:
        The checked recipe.

    Raises:
        RecipeError: the file cannot be read, is not YAML, or has a wrong key or value; names all three.
    """
    try:
        # Bytes, since PyYAML knows UTF-16 by its mark, which is what PowerShell's `>` writes.
        content = _read_yaml(path.read_bytes())
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}", "See `adaptgen recipes ls`") from None
    except yaml.reader.ReaderError:
        raise RecipeError(f"{path} is not a text file", "A recipe is a YAML file in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" in line {mark.line + 1}" if mark is not None else ""
        reason = getattr(error, "problem", None) or "syntax error"
        raise RecipeError(f"{path} is not valid YAML{place}: {reason}", "Mend that line") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path} holds no settings", "A recipe is a YAML mapping; see `adaptgen recipes cat music`")
    for override in overrides:
        _apply_override(content, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {_explain(error)}", "See `adaptgen recipes cat music` for a complete one") from None


def _apply_override(content: dict[str, Any], override: str) -> None:
    key_path, separator, text = override.partition("=")
    if not separator or not key_path:
        raise RecipeError(f"--set {override!r} has no '='", "Write --set training.max_steps=500")
    try:
        value = _read_yaml(text)
    except _RepeatedKeyError as error:
        raise RecipeError(f"--set {override!r}: {error.problem}", "Give it once") from None
    except yaml.YAMLError:
        raise RecipeError(f"--set {override!r}: the value is not valid YAML", "Quote it") from None
    keys = key_path.split(".")
    node: Any = content
    for depth, key in enumerate(keys):
        if isinstance(node, list):
            if not key.isdecimal() or int(key) >= len(node):
                raise RecipeError(
                    f"--set {override!r}: {'.'.join(keys[:depth])} is a list of {len(node)} and has no item {key!r}",
                    "Use an index from 0",
                )
            key = int(key)
        elif not isinstance(node, dict):
            raise RecipeError(f"--set {override!r}: {'.'.join(keys[:depth])} is a single value", "Shorten the path")
        if depth == len(keys) - 1:
            node[key] = value
        elif isinstance(node, dict):
            if key not in node and keys[depth + 1].isdecimal():
                place = ".".join(keys[: depth + 1])
                raise RecipeError(
                    f"--set {override!r}: the recipe has no list {place} of which to change an item",
                    f"Give all of it: --set '{place}=[...]'",
                )
            node = node.setdefault(key, {})
        else:
            node = node[key]


def _explain(error: ValidationError) -> str:
    """One sentence for the first mistake, with the nearest valid key if a key is unknown."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _valid_keys(first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1, cutoff=0.5)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        return f"unknown key {place!r} (value {SHOWN.repr(first['input'])}){hint}"
    if first["type"] == "missing":
        return f"key {place!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return message
    if isinstance(first["input"], dict):
        return f"{place}: {message}"
    value = "null" if first["input"] is None else SHOWN.repr(first["input"])
    return f"{place} is {value}: {message[0].lower() + message[1:]}"


def _valid_keys(location: Sequence[str | int]) -> list[str]:
    """Keys that the schema knows at a place in the recipe."""
    node: Any = Recipe
    for part in location:
        if isinstance(part, str):
            node = node.model_fields[part].annotation
        while not (isinstance(node, type) and issubclass(node, Settings)):
            node = next(arg for arg in get_args(node) if arg is not type(None) and arg is not Ellipsis)
    return list(node.model_fields)
