"""Token shards: a corpus tokenised once, memory-mapped, and drawn from in a seeded order.

A shard is `<split>.bin`, uint16 `[K, n]`, beside `<split>.json` with the documents' offsets and what it was made
from. It lies in a cache folder named by a hash of the tokenizer and of every file's content, so that it is made
again when, and only when, something changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from adaptgen import __version__
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.corpus_files import SPLITS, find_files, split_files
from adaptgen.domains.base import Domain, Tokenizer
from adaptgen.errors import InputFileError, OutputFileError, is_of_full_memory
from adaptgen.paths import user_path
from adaptgen.reading import num_cpus, read_in_parallel

__all__ = ["BatchSampler", "Shard", "Skipped", "cache_folder", "prepare"]

SHARD_VERSION = 3
FILES_PER_TASK = 8

Skipped = tuple[str, str]
"""A file that could not be used, by its path below the source's folder, and why."""


@dataclass(frozen=True)
class Shard:
    """One split of one source.

    Attributes:
        tokens: uint16 `[K, n]`, memory-mapped.
        offsets: where each document begins, and n at the end.
    """

    tokens: np.ndarray
    offsets: list[int]

    @property
    def num_documents(self) -> int:
        return len(self.offsets) - 1

    def documents(self) -> Iterator[np.ndarray]:
        """int64 `[K, T]` of each document."""
        for start, stop in zip(self.offsets, self.offsets[1:], strict=False):
            yield self.tokens[:, start:stop].astype(np.int64)


def cache_folder() -> Path:
    """Where shards are kept: $ADAPTGEN_CACHE, else $XDG_CACHE_HOME/adaptgen, else ~/.cache/adaptgen.

    Raises:
        InputFileError: there is no home folder either.
    """
    if own := os.environ.get("ADAPTGEN_CACHE"):
        return user_path(own)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "adaptgen"


def prepare(
    domain: Domain,
    tokenizer: Tokenizer,
    source: SourceConfig,
    config: DataConfig,
    root: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    num_workers: int | None = None,
) -> tuple[dict[str, Shard], list[Skipped]]:
    """Tokenise one source, or find it in the cache.

    Args:
        domain, tokenizer: whose files these are.
        source, config: which folder below `root`, and how to split it.
        root: the data folder, or a single file, whose last parts are then held out.
        on_progress: called with files done and files in all.
        num_workers: processes; one per CPU if not given.

    Returns:
        A shard per split that has documents, and the files that were skipped.

    Raises:
        InputFileError: the folder is not there or holds no usable file.
        OutputFileError: the cache cannot be written.
    """
    folder = root / source.path
    splits = _split_source(folder, domain, config)
    shares = (config.validation_share, config.test_share) if folder.is_file() else None
    target = _place_in_cache(domain, tokenizer, splits, folder, shares)
    held = _read_shards(target, len(tokenizer.vocab_sizes))
    if held is None:
        try:
            if target.exists():
                shutil.rmtree(target)
            documents, skipped = _tokenize(
                domain,
                tokenizer,
                splits,
                folder,
                # A second version of a song must not be in training while the first is held out.
                may_vary=shares is None,
                on_progress=on_progress,
                num_workers=num_workers,
            )
            if shares is not None:
                documents = _hold_out(documents["train"], shares, begin=tokenizer.begin)
            _write_shards(target, documents, skipped, fingerprint=tokenizer.fingerprint)
        except OSError as error:
            if is_of_full_memory(error):
                raise
            raise OutputFileError(
                f"shards cannot be written to {target}: {error.strerror}",
                "Free some space, or set ADAPTGEN_CACHE to another folder",
            ) from None
        held = _read_shards(target, len(tokenizer.vocab_sizes))
        assert held is not None, f"{target} holds what was just written"
    shards, skipped = held
    taken = {path for files in splits.values() for path, _ in files}
    closed: list[Path] = []
    skipped += [
        (path.relative_to(folder).as_posix(), "lies beside the splits, in none of them")
        for path in find_files(folder, domain.suffixes, on_unreadable=closed.append)
        if path not in taken
    ]
    skipped += [(path.relative_to(folder).as_posix(), "is a folder that may not be read") for path in closed]
    if "train" not in shards:
        reason = f"; the first was skipped because: {skipped[0][1]}" if skipped else ""
        raise InputFileError(f"{folder} has no file that can be trained on{reason}", "Give another folder with --data")
    return shards, skipped


def _split_source(folder: Path, domain: Domain, config: DataConfig) -> dict[str, list[tuple[Path, str]]]:
    """The files of a folder, or a single file, with their digests by split; at least one."""
    is_file = folder.is_file()
    if not (is_file or folder.is_dir()):
        raise InputFileError(f"{folder} is not a folder", "Give one with --data")
    if not os.access(folder, os.R_OK | (0 if is_file else os.X_OK)):
        raise InputFileError(f"{folder} may not be read", "Change its permissions")
    splits = split_files(folder, domain.suffixes, config)
    if not any(splits.values()):
        kinds = ", ".join(domain.suffixes)
        raise InputFileError(f"{folder} has no {domain.name} files ({kinds})", "Give another folder with --data")
    return splits


def _place_in_cache(
    domain: Domain,
    tokenizer: Tokenizer,
    splits: dict[str, list[tuple[Path, str]]],
    folder: Path,
    shares: tuple[float, float] | None,
) -> Path:
    """The cache's folder for what is made from all that is given; `shares` of a single file are held out."""
    # Names count as well as content: they decide, for one, which files get training variants.
    names = [[(str(path.relative_to(folder)), digest) for path, digest in splits[split]] for split in SPLITS]
    # So does the program's version: a file that it could not read may be read by the next.
    # A fingerprint is of the tokens that material gives; which one begins a document need not be among them.
    tokens = [tokenizer.fingerprint, tokenizer.begin, tokenizer.vocab_sizes]
    made_from = [SHARD_VERSION, __version__, domain.name, *tokens, names]
    made_from += [] if shares is None else [shares]
    key = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
    return cache_folder() / "shards" / key[:32]


def _read_shards(target: Path, num_streams: int) -> tuple[dict[str, Shard], list[Skipped]] | None:
    """What the cache holds; None if that is nothing, or damaged."""
    shards = {}
    try:
        skipped = [(name, reason) for name, reason in json.loads((target / "skipped.json").read_text(encoding="utf-8"))]
        for split in SPLITS:
            offsets = json.loads((target / f"{split}.json").read_text(encoding="utf-8"))["offsets"]
            if len(offsets) > 1:
                path, shape = target / f"{split}.bin", (num_streams, offsets[-1])
                if path.stat().st_size != math.prod(shape) * np.dtype(np.uint16).itemsize:
                    return None
                shards[split] = Shard(np.memmap(path, np.uint16, "r", shape=shape), offsets)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if is_of_full_memory(error):
            raise
        return None
    return shards, skipped


def _tokenize(
    domain: Domain,
    tokenizer: Tokenizer,
    splits: dict[str, list[tuple[Path, str]]],
    folder: Path,
    *,
    may_vary: bool,
    on_progress: Callable[[int, int], None],
    num_workers: int | None,
) -> tuple[dict[str, list[np.ndarray]], list[Skipped]]:
    """Documents uint16 `[K, T]` of each split, and the files that cannot be used."""
    assert max(tokenizer.vocab_sizes) <= 2**16, "shards hold 16-bit tokens"
    total, done = sum(len(files) for files in splits.values()), 0
    documents: dict[str, list[np.ndarray]] = {split: [] for split in splits}
    skipped: list[Skipped] = []
    owners, tasks = [], []
    for split, files in splits.items():
        for start in range(0, len(files), FILES_PER_TASK):
            paths = [path for path, _ in files[start : start + FILES_PER_TASK]]
            owners.append((split, paths))
            tasks.append((domain, tokenizer, paths, may_vary and split == "train"))
    workers = min(num_workers or num_cpus(), max(1, total // FILES_PER_TASK))
    with closing(read_in_parallel(tasks, workers)) as found:
        for (split, paths), results in zip(owners, found, strict=True):
            for path, result in zip(paths, results, strict=True):
                if isinstance(result, str):
                    skipped.append((path.relative_to(folder).as_posix(), result))
                else:
                    documents[split] += result
            done += len(paths)
            on_progress(done, total)
    return documents, skipped


def _hold_out(documents: list[np.ndarray], shares: tuple[float, float], *, begin: int) -> dict[str, list[np.ndarray]]:
    """The documents of a single file in splits: its last parts are for validation and test."""
    if not documents:
        return {split: [] for split in SPLITS}
    tokens = np.concatenate(documents, axis=1)
    held_out = [int(share * tokens.shape[1]) for share in shares]
    stops = np.cumsum([tokens.shape[1] - sum(held_out), held_out[0]])
    result = {}
    for split, part in zip(SPLITS, np.split(tokens, stops, axis=1), strict=True):
        if part.shape[1] and part[0, 0] != begin:
            part = np.concatenate([np.full_like(part[:, :1], begin), part], axis=1)
        starts = np.flatnonzero(part[0] == begin)
        result[split] = [piece for piece in np.split(part, starts[starts > 0], axis=1) if piece.shape[1]]
    return result


def _write_shards(
    target: Path, documents: dict[str, list[np.ndarray]], skipped: list[Skipped], *, fingerprint: str
) -> None:
    """All files at one go; another process that does the same may come first."""
    partial = target.with_name(f"{target.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        for split, parts in documents.items():
            if parts:
                np.concatenate(parts, axis=1).tofile(partial / f"{split}.bin")
            offsets = [0, *accumulate(part.shape[1] for part in parts)]
            (partial / f"{split}.json").write_text(
                json.dumps({"offsets": offsets, "tokenizer": fingerprint}), encoding="utf-8"
            )
        (partial / "skipped.json").write_text(json.dumps(skipped), encoding="utf-8")
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class BatchSampler:
    """Training batches that depend on the seed and the step alone, so that a resumed run sees the same ones.

    A sequence is a random stretch of a source's documents laid end to end; a source is drawn by its weight. Each has
    a random generator of its own, so that processes which share a batch draw their sequences only.

    Args:
        shards: one per source.
        weights: of the sources.
        batch_size, seq_len: shape of a batch.
        seed: with the step and the place in the batch, decides everything.
        vary: called with a sequence `[K, T]`, another one drawn in the same way, and a random generator; returns
            a variation of the first.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        weights: Sequence[float],
        *,
        batch_size: int,
        seq_len: int,
        seed: int,
        vary: Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray] | None = None,
    ) -> None:
        self.shards, self.vary = shards, vary
        self.weights = np.asarray(weights) / np.sum(weights)
        self.batch_size, self.seq_len, self.seed = batch_size, seq_len, seed

    def batch(self, step: int, rows: Iterable[int] | None = None) -> np.ndarray:
        """int64 `[B, K, T + 1]`, or these of its sequences only; a source shorter than that is repeated."""
        rows = range(self.batch_size) if rows is None else rows
        return np.stack([self._sequence(np.random.default_rng((self.seed, step, row))) for row in rows])

    def _sequence(self, rng: np.random.Generator) -> np.ndarray:
        sequence = self._stretch(rng)
        return sequence if self.vary is None else self.vary(sequence, self._stretch(rng), rng)

    def _stretch(self, rng: np.random.Generator) -> np.ndarray:
        tokens, length = self.shards[rng.choice(len(self.shards), p=self.weights)].tokens, self.seq_len + 1
        start = rng.integers(0, max(1, tokens.shape[1] - length + 1))
        sequence = np.asarray(tokens[:, start : start + length], dtype=np.int64)
        if sequence.shape[1] < length:
            sequence = np.tile(sequence, -(-length // sequence.shape[1]))[:, :length]
        return sequence
