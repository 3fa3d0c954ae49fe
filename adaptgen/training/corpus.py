"""The files of a recipe, tokenised: what a run is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adaptgen.config import Recipe
from adaptgen.corpus_files import find_files, split_files
from adaptgen.domains.base import Domain, Tokenizer
from adaptgen.errors import InputFileError, is_of_full_memory
from adaptgen.paths import user_path
from adaptgen.shards import Shard, prepare
from adaptgen.shipped import find_shipped

__all__ = ["Corpus", "find_data_folder", "fit_tokenizer", "read_corpus"]


@dataclass(frozen=True)
class Corpus:
    """All sources of a recipe.

    Attributes:
        shards: by split, of each source in the recipe's order.
        skipped: files that could not be used, below the data folder, and why.
        num_files: how many there are, the skipped ones included.
    """

    shards: list[dict[str, Shard]]
    skipped: list[tuple[str, str]]
    num_files: int

    def num_tokens(self, split: str) -> int:
        """Tokens of all streams in all documents of a split."""
        return sum(source[split].tokens.size for source in self.shards if split in source)

    @property
    def fingerprint(self) -> str:
        """Changes with any token."""
        digest = hashlib.sha256()
        for source in self.shards:
            for split, shard in sorted(source.items()):
                digest.update(f"{split} {shard.offsets}".encode())
                digest.update(shard.tokens)
        return digest.hexdigest()[:32]


def find_data_folder(folder: str | None) -> Path:
    """The data folder that a recipe names: a path, or what is shipped under that path.

    Raises:
        InputFileError: there is none, or the recipe's data have yet to be fetched.
    """
    if folder is None:
        raise InputFileError("the recipe's data have not been fetched", "Run `adaptgen train` with it, or give --data")
    path = user_path(folder)
    found = path if path.exists() else find_shipped(folder)
    if found is None:
        raise InputFileError(f"there is no folder {folder}", "Give one with --data")
    return found.resolve()


def fit_tokenizer(recipe: Recipe, domain: Domain, tokenizer: Tokenizer) -> None:
    """Let a new tokenizer learn from the training files of all sources; from all of a source that is one file."""
    folders = [Path(recipe.data.folder) / source.path for source in recipe.data.sources]
    # A generator: most tokenizers learn nothing, and finding the files takes a while.
    paths = (
        path
        for folder in folders
        if folder.exists()
        for path, _ in split_files(folder, domain.suffixes, recipe.data)["train"]
    )
    with _within_memory(Path(recipe.data.folder)):
        tokenizer.fit(paths)


def read_corpus(
    recipe: Recipe,
    domain: Domain,
    tokenizer: Tokenizer,
    *,
    on_progress: Callable[[str, int, int], None] = lambda source, done, total: None,
) -> Corpus:
    """Tokenise every source, or find it in the cache.

    Args:
        recipe: names the sources.
        domain, tokenizer: read them.
        on_progress: called with the source, files done and files in all.

    Raises:
        InputFileError: a source has no usable file, or there is less in all than one training sequence.
    """
    root = Path(recipe.data.folder)
    shards, skipped, num_files = [], [], 0
    for source in recipe.data.sources:
        with _within_memory(root / source.path):
            splits, bad = prepare(
                domain,
                tokenizer,
                source,
                recipe.data,
                root,
                on_progress=lambda done, total, name=(root / source.path).name: on_progress(name, done, total),
            )
        shards.append(splits)
        skipped += [((Path(source.path) / name).as_posix(), reason) for name, reason in bad]
        num_files += len(find_files(root / source.path, domain.suffixes))
    corpus = Corpus(shards, skipped, num_files)
    tokens, needed = corpus.num_tokens("train"), (recipe.training.seq_len + 1) * len(tokenizer.vocab_sizes)
    if tokens < needed:
        unused = (
            f" ({len(skipped):,} of {num_files:,} files cannot be used; {': '.join(skipped[0])})" if skipped else ""
        )
        raise InputFileError(
            f"{root} has {tokens:,} tokens to train on, fewer than the {needed:,} of one training sequence{unused}",
            "Add files, or lower training.seq_len",
        )
    return corpus


@contextmanager
def _within_memory(folder: Path) -> Iterator[None]:
    """Turn running out of memory over a folder's files into a sentence."""
    try:
        yield
    except (MemoryError, OSError, RuntimeError) as error:
        if is_of_full_memory(error):
            raise InputFileError(
                f"{folder} takes more memory to read than there is",
                "Give fewer files, or a machine with more memory",
            ) from None
        raise
