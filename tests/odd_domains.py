"""Music domains whose files do odd things to the process that reads them, for spawned processes to import."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from adaptgen import domains
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.domains.base import Tokenizer
from adaptgen.shards import prepare

MUSIC = domains.get("music")


class Odd(type(MUSIC)):
    """A file with deadly in its name ends its process, one with huge finds no memory; a slow one takes long, and leaves
    its process's number."""

    def read_documents(self, path: Path, tokenizer: Tokenizer, **options: Any) -> list[np.ndarray]:
        if "deadly" in path.stem:
            os._exit(1)
        if "huge" in path.stem:
            # More than a processor can address, so that no system promises it.
            np.empty(2**60, np.uint8)
        if path.stem.startswith("slow"):
            path.with_suffix(f".{os.getpid()}").touch()
            time.sleep(120)
        return super().read_documents(path, tokenizer, **options)


def prepare_odd(folder: Path, *, num_workers: int = 2) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    config = DataConfig(folder=".", validation_share=0, test_share=0)
    tokenizer = MUSIC.tokenizer_type.from_options({})
    return prepare(Odd(), tokenizer, SourceConfig(), config, folder, num_workers=num_workers)


if __name__ == "__main__":
    # What is started in the background of a shell without job control ignores it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare_odd(Path(sys.argv[1]))
