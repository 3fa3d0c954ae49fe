"""Files read into documents by several processes, which end with this one, and of which a file may end one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from adaptgen.domains.base import Domain, Tokenizer
from adaptgen.errors import AdaptgenError, InputFileError, UsageError, is_of_full_memory

__all__ = ["ReadTask", "num_cpus", "read_in_parallel"]

ReadTask = tuple[Domain, Tokenizer, list[Path], bool]
"""Whose files, and whether they are for training."""


def num_cpus() -> int:
    """As many as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_in_parallel(tasks: Sequence[ReadTask], num_workers: int) -> Generator[list[list[np.ndarray] | str]]:
    """For each task, in order, what each of its files holds: documents uint16 `[K, T]`, or why it cannot be used.

    Raises:
        InputFileError: a file takes more memory than there is. It is not skipped: another time there may be enough.
    """
    if num_workers == 1:
        # This process starts sooner than another.
        yield from (_read_files(*task) for task in tasks)
        return
    done = 0
    with _worker_pool(num_workers) as pool:
        with _ignored_interrupts():
            futures = [pool.submit(_read_files, *task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
                done += 1
        except BrokenProcessPool:
            pass
    yield from (_read_singly(*task) for task in tasks[done:])


def _read_files(
    domain: Domain, tokenizer: Tokenizer, paths: list[Path], is_training: bool
) -> list[list[np.ndarray] | str]:
    results: list[list[np.ndarray] | str] = []
    for path in paths:
        try:
            documents = domain.read_documents(path, tokenizer, is_training=is_training)
            results.append([_shortened(document, tokenizer) for document in documents])
        except AdaptgenError as error:
            results.append(error.problem.removeprefix(f"{path} "))
        except Exception as error:
            if is_of_full_memory(error):
                raise InputFileError(
                    f"{path} takes more memory to read than there is", "Cut it into smaller files, or leave it out"
                ) from None
            # One file that finds a mistake of ours must not cost the user all the others.
            results.append(f"makes adaptgen fail with {error!r}; please report it")
    return results


def _shortened(document: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Tokens `[K, T]` as uint16, which would go on from 0 above 65,535."""
    sizes = np.minimum(tokenizer.vocab_sizes, 2**16)[:, None]
    assert ((document >= 0) & (document < sizes)).all(), "a token is outside the vocabulary"
    return document.astype(np.uint16)


def _read_singly(
    domain: Domain, tokenizer: Tokenizer, paths: list[Path], is_training: bool
) -> list[list[np.ndarray] | str]:
    """What `_read_files` finds, where a file may end the process that reads it."""
    results: list[list[np.ndarray] | str] = []
    while len(results) < len(paths):
        with _worker_pool(1) as pool:
            _check_starts(pool)
            try:
                for path in paths[len(results) :]:
                    with _ignored_interrupts():
                        future = pool.submit(_read_files, domain, tokenizer, [path], is_training)
                    results += future.result()
            except BrokenProcessPool:
                results.append("ends the process that reads it, or took more memory than there is")
    return results


def _check_starts(pool: ProcessPoolExecutor) -> None:
    """Check that it is not starting at which a pool's process ends.

    Raises:
        UsageError: it is; as a rule, it ran a script's training once more when it imported the script.
    """
    try:
        with _ignored_interrupts():
            started = pool.submit(num_cpus)
        started.result()
    except BrokenProcessPool:
        raise UsageError(
            "no process that reads files can be started",
            'In a script of your own, put what it does below: if __name__ == "__main__":',
        ) from None


@contextmanager
def _worker_pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end at once when this process is interrupted or ends."""
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_end_with, initargs=(watched,))
    try:
        yield pool
    except BaseException:
        held.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        watched.close()


def _end_with(watched: Connection) -> None:
    """Let this process end when the other end of a pipe is closed, by whatever cause, and not by Ctrl-C."""
    # Windows does not hand on what `_ignored_interrupts` sets.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            watched.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Processes started in here leave Ctrl-C, which a terminal sends to them too, to this one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
