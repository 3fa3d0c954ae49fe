"""Published data for verbs: what is fetched, under which licence, and how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adaptgen.cli.common import progress_bar, say, stages_of
from adaptgen.errors import UsageError

if TYPE_CHECKING:
    from adaptgen.config import Recipe

__all__ = ["bring_data", "dataset_recipes"]

BENCHMARKS = "benchmarks/"


def dataset_recipes() -> dict[str, str]:
    """The shipped recipes whose data are published, by the name of the data: text8, benchmarks/text8."""
    from adaptgen.shipped import recipe_names

    return {name.removeprefix(BENCHMARKS): name for name in recipe_names() if name.startswith(BENCHMARKS)}


def bring_data(recipe: Recipe, source: Path | None, *, stderr: bool) -> Path:
    """The folder of a recipe's published data, fetched if need be, with what is done on the way.

    Args:
        recipe: whose data.
        source: a folder with a copy, instead of the network.
        stderr: where to show it.

    Raises:
        UsageError: the recipe's data are not published ones.
        AdaptgenError: as of `find_dataset`.
    """
    from adaptgen.datasets import find_dataset

    if recipe.data.download is None:
        raise UsageError(f"the recipe {recipe.name} names no published data", "Give your own with --data")
    with progress_bar(stderr=stderr, in_bytes=True) as bar:
        return find_dataset(
            recipe.data.download,
            name=recipe.name,
            source=source,
            on_progress=stages_of(bar),
            on_message=lambda message: say(message, stderr=stderr),
        )
