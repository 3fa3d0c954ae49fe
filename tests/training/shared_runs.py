"""Started by torchrun: the runs of a JSON list one after the other, shared by all processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from adaptgen.recipe_files import load_recipe
from adaptgen.training.distributed import Ranks, join
from adaptgen.training.session import Session


def share(run: dict[str, Any], ranks: Ranks) -> None:
    recipe = load_recipe(Path(run["recipe"]), overrides=run["overrides"])
    session = Session(recipe, Path(run["folder"]), resume=run["resume"], ranks=ranks)
    session.run(should_stop=lambda: session.trainer.step == run["stop_after"])
    assert (session.log is None) == (ranks.rank > 0)


if __name__ == "__main__":
    with join("cpu") as all_ranks:
        for each in json.loads(sys.argv[1]):
            share(each, all_ranks)
