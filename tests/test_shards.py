"""Shards: what they hold, when they are made again, and what a batch depends on."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import odd_domains
import pytest
from odd_domains import prepare_odd

from adaptgen import domains, reading, shards
from adaptgen.config import DataConfig, SourceConfig
from adaptgen.corpus_files import split_files
from adaptgen.errors import InputFileError, OutputFileError
from adaptgen.shards import BatchSampler, Shard, prepare

CORPUS = Path(__file__).parents[1] / "examples" / "corpus"
MUSIC = domains.get("music")
CONFIG = DataConfig(folder=".", validation_share=0.25, test_share=0.25)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv("ADAPTGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two songs and a file that is none."""
    target = tmp_path / "files"
    target.mkdir()
    for name in ("frere_jacques", "ode_to_joy"):
        (target / f"{name}.mid").write_bytes((CORPUS / f"{name}.mid").read_bytes())
    (target / "broken.mid").write_bytes(b"MThread")
    return target


def prepare_all(folder: Path, *, num_velocities: int = 4) -> tuple[dict[str, Shard], list[tuple[str, str]]]:
    tokenizer = MUSIC.tokenizer_type.from_options({"num_velocities": num_velocities})
    config = DataConfig(folder=".", validation_share=0, test_share=0)
    return prepare(MUSIC, tokenizer, SourceConfig(), config, folder, num_workers=1)


def test_unusable_files_are_skipped_with_a_reason(folder: Path, cache: Path) -> None:
    shards, skipped = prepare_all(folder)
    reason = "is not a MIDI file: it begins with b'MThr' where MIDI has b'MThd'"
    assert skipped == [("broken.mid", reason)]
    assert shards["train"].num_documents >= 2
    assert shards.keys() == {"train"}


def test_shards_hold_what_the_domain_reads(folder: Path, cache: Path) -> None:
    tokenizer = MUSIC.tokenizer_type.from_options({"num_velocities": 4})
    shards, _ = prepare_all(folder)
    expected = [
        document
        for name in ("frere_jacques", "ode_to_joy")
        for document in MUSIC.read_documents(folder / f"{name}.mid", tokenizer, is_training=True)
    ]
    for ours, theirs in zip(shards["train"].documents(), expected, strict=True):
        assert np.array_equal(ours, theirs)


def test_shards_are_made_again_only_when_something_changed(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, original = [], shards._tokenize
    monkeypatch.setattr(shards, "_tokenize", lambda *args, **kwargs: made.append(1) or original(*args, **kwargs))

    def times_made() -> int:
        prepare_all(folder)
        return len(made)

    assert times_made() == 1
    assert times_made() == 1
    (folder / "ode_to_joy.mid").touch()
    assert times_made() == 1
    (folder / "ode_to_joy.mid").write_bytes((CORPUS / "auld_lang_syne.mid").read_bytes())
    assert times_made() == 2
    (folder / "broken.mid").unlink()
    assert times_made() == 3
    prepare_all(folder, num_velocities=5)
    assert len(made) == 4
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("name", ["train.bin", "train.json", "test.json", "skipped.json"])
@pytest.mark.parametrize("content", [b"", b"7", None])
def test_damaged_shards_are_made_again(folder: Path, cache: Path, name: str, content: bytes | None) -> None:
    shards, skipped = prepare_all(folder)
    expected = np.array(shards["train"].tokens)
    (made,) = cache.iterdir()
    path = made / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    shards, skipped_again = prepare_all(folder)
    assert np.array_equal(shards["train"].tokens, expected)
    assert skipped_again == skipped


def test_says_why_a_folder_cannot_be_used(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputFileError, match=r"nowhere is not a folder\. Give one with --data"):
        prepare_all(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputFileError, match=r"empty has no music files \(\.mid, \.midi"):
        prepare_all(tmp_path / "empty")


def test_says_that_the_cache_cannot_be_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ADAPTGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputFileError, match=r"Not a directory.*set ADAPTGEN_CACHE to another folder"):
        prepare_all(folder)


def test_two_that_make_the_same_shards_at_once_both_have_them(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, both = shards._write_shards, threading.Barrier(2, timeout=60)
    monkeypatch.setattr(shards, "_write_shards", lambda *args, **kwargs: both.wait() * 0 or original(*args, **kwargs))
    with ThreadPoolExecutor(2) as pool:
        (one, _), (other, _) = pool.map(prepare_all, [folder, folder])
    assert np.array_equal(one["train"].tokens, other["train"].tokens)
    assert len(list(cache.iterdir())) == 1, "and leave nothing else"


def test_what_a_version_could_not_read_the_next_one_tries_again(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(type(MUSIC), "read_documents", lambda *args, **kwargs: 1 / 0)
        patch.setattr(shards, "__version__", "before")
        with pytest.raises(InputFileError, match="ZeroDivisionError"):
            prepare_all(folder)
    assert len(prepare_all(folder)[1]) == 1


def test_a_folder_that_may_not_be_read_is_named(folder: Path, cache: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user may read everything")
        assert ("closed", "is a folder that may not be read") in prepare_all(folder)[1]
    finally:
        closed.chmod(0o755)


def test_a_script_that_its_readers_would_run_again_is_told_so(tmp_path: Path, cache: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "from pathlib import Path\n"
        "from adaptgen import domains\n"
        "from adaptgen.config import DataConfig, SourceConfig\n"
        "from adaptgen.shards import prepare\n"
        "music = domains.get('music')\n"
        "tokenizer = music.tokenizer_type.from_options({})\n"
        f"prepare(music, tokenizer, SourceConfig(), DataConfig(folder='.'), Path({str(CORPUS)!r}), num_workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert "UsageError: no process that reads files can be started" in done.stderr.splitlines()[-1]
    script.write_text("\n".join(["if __name__ == '__main__':", *("    " + x for x in script.read_text().splitlines())]))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_readers_leave_interrupts_to_the_process_that_started_them() -> None:
    # On Windows they do not inherit that; nor do they here when another thread than the main one starts them.
    with reading._worker_pool(1) as pool:
        assert pool.submit(signal.getsignal, signal.SIGINT).result(timeout=120) == signal.SIG_IGN


def test_a_file_that_ends_its_reader_is_skipped_alone(tmp_path: Path, cache: Path) -> None:
    for index in range(16):
        (tmp_path / f"song{index:02}.mid").write_bytes((CORPUS / "ode_to_joy.mid").read_bytes())
    (tmp_path / "song99_deadly.mid").write_bytes(b"")
    shards, skipped = prepare_odd(tmp_path)
    assert skipped == [("song99_deadly.mid", "ends the process that reads it, or took more memory than there is")]
    assert shards["train"].num_documents >= 16


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_file_that_no_memory_holds_is_named_and_not_skipped(tmp_path: Path, cache: Path, num_workers: int) -> None:
    for index in range(16):
        (tmp_path / f"song{index:02}.mid").write_bytes((CORPUS / "ode_to_joy.mid").read_bytes())
    (tmp_path / "song99_huge.mid").write_bytes(b"")
    with pytest.raises(InputFileError, match=r"song99_huge\.mid takes more memory to read than there is\. Cut it into"):
        prepare_odd(tmp_path, num_workers=num_workers)
    assert not cache.exists(), "the next run may find more memory"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_readers_end_with_the_process_that_started_them(tmp_path: Path, cache: Path, how: signal.Signals) -> None:
    for index in range(16):
        (tmp_path / f"slow{index}.mid").write_bytes((CORPUS / "ode_to_joy.mid").read_bytes())
    with subprocess.Popen([sys.executable, odd_domains.__file__, tmp_path], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: len(list(tmp_path.glob("slow*.*[0-9]"))) == 2)
            readers = [int(path.suffix[1:]) for path in tmp_path.glob("slow*.*[0-9]")]
            process.send_signal(how)
            # Sooner than any of the files is read.
            assert process.wait(timeout=50) != 0
            wait_until(lambda: not any(map(is_running, readers)))
        finally:
            process.kill()


def wait_until(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.1)


def is_running(process_id: int) -> bool:
    """Whether there is such a process, other than one whose parent has yet to take notice of its end."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_tokenizers_that_begin_documents_otherwise_share_no_shards(tmp_path: Path, cache: Path) -> None:
    """Of a text with few merges, vocabularies of two sizes hold the same ones."""
    path, domain = tmp_path / "text.txt", domains.get("text")
    path.write_text("abcd " * 40)
    begins = []
    for size in (320, 300):
        tokenizer = domain.tokenizer_type.from_options({"kind": "bpe", "vocab_size": size})
        tokenizer.fit([path])
        shards, _ = prepare(domain, tokenizer, SourceConfig(), CONFIG, path)
        begins.append(int(shards["train"].tokens[0, 0]))
    assert begins == [319, 299]


@pytest.mark.parametrize("token", [-1, 2**16, 10**6])
def test_a_token_outside_the_vocabulary_is_said(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, token: int
) -> None:
    monkeypatch.setattr(type(MUSIC), "read_documents", lambda *args, **options: [np.array([[0, token]])])
    with pytest.raises(InputFileError, match="a token is outside the vocabulary"):
        prepare_all(folder)


def shard(first: int, length: int) -> Shard:
    return Shard(np.arange(first, first + length, dtype=np.uint16)[None], [0, length])


def test_batches_depend_on_seed_and_step_alone() -> None:
    def sampler(seed: int) -> BatchSampler:
        vary = lambda tokens, other, rng: tokens + other + rng.integers(100)  # noqa: E731
        return BatchSampler([shard(0, 500), shard(1000, 500)], [3, 1], batch_size=4, seq_len=16, seed=seed, vary=vary)

    one, other = sampler(5), sampler(5)
    steps = [one.batch(step) for step in range(20)]
    for step in reversed(range(20)):
        assert np.array_equal(other.batch(step), steps[step])
    assert steps[0].shape == (4, 1, 17)
    assert np.array_equal(one.batch(7, range(1, 4, 2)), steps[7][1::2])
    assert not np.array_equal(steps[0], steps[1])
    assert not np.array_equal(steps[0], sampler(6).batch(0))


def test_sources_are_drawn_by_weight() -> None:
    sampler = BatchSampler([shard(0, 50), shard(1000, 5000)], [3, 1], batch_size=10, seq_len=16, seed=0)
    from_first = np.mean([(sampler.batch(step)[:, 0, 0] < 1000).mean() for step in range(100)])
    assert from_first == pytest.approx(0.75, abs=0.05)


def test_the_first_and_the_last_stretch_are_drawn_too() -> None:
    sampler = BatchSampler([shard(0, 18)], [1], batch_size=64, seq_len=16, seed=0)
    assert set(sampler.batch(0)[:, 0, 0].tolist()) == {0, 1}


def test_a_short_source_is_repeated() -> None:
    batch = BatchSampler([shard(7, 3)], [1], batch_size=1, seq_len=6, seed=0).batch(0)
    assert batch.tolist() == [[[7, 8, 9, 7, 8, 9, 7]]]


def test_files_named_after_splits_are_the_splits_whatever_lies_beside_them(cache: Path, tmp_path: Path) -> None:
    for name in ("train.txt", "validation.txt.gz", "test.txt", "SOURCE.md"):
        data = f"What {name} says, over and over. ".encode() * 20
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    domain = domains.get("text")
    config = DataConfig(folder=str(tmp_path), validation_share=0.3, test_share=0)
    splits = split_files(tmp_path, domain.suffixes, config)
    assert {split: [path.name for path, _ in files] for split, files in splits.items()} == {
        "train": ["train.txt"],
        "validation": ["validation.txt.gz"],
        "test": ["test.txt"],
    }
    tokenizer = domain.tokenizer_type.from_options({})
    _, skipped = prepare(domain, tokenizer, SourceConfig(), config, tmp_path)
    assert skipped == [("SOURCE.md", "lies beside the splits, in none of them")]


def test_of_a_single_song_the_last_part_is_held_out_and_nowhere_else(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "song.mid"
    path.write_bytes((CORPUS.parent / "song.mid").read_bytes())
    domain = domains.get("music")
    tokenizer = domain.tokenizer_type.from_options({})
    config = DataConfig(folder=str(path), validation_share=0.2, test_share=0.1)
    shards, _ = prepare(domain, tokenizer, SourceConfig(), config, path)
    (whole,) = domain.read_documents(path, tokenizer, is_training=False)
    parts = [next(shards[split].documents()) for split in ("train", "validation", "test")]
    assert all(part[0, 0] == tokenizer.begin for part in parts)
    assert np.array_equal(np.concatenate([part[:, 1:] for part in parts], axis=1), whole[:, 1:])
