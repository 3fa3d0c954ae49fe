"""What continuing a text promises, whatever the model says: its bytes stay, and whole characters are added."""

from __future__ import annotations

import codecs
import random
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptgen.checkpoint import Checkpoint, load_tokenizer
from adaptgen.config import ModelConfig
from adaptgen.continuation import continue_file
from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.text.characters import BETWEEN, DEAD, CharacterRules
from adaptgen.domains.text.corpus import read_documents, split_documents
from adaptgen.domains.text.tokenizer import KINDS, TextTokenizer, to_text8
from adaptgen.errors import CheckpointError, InputFileError, RecipeError, UsageError
from adaptgen.model import Transformer
from adaptgen.sampling import Sampling

GERMAN = "Das Mädchen lief über die Straße.\r\n" * 20
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 20
TEXTS = {"utf-8": GERMAN, "utf-8-sig": JAPANESE, "utf-16": GERMAN, "cp1252": GERMAN, "cp932": JAPANESE}
TEXTS_TO_LEARN = Path(__file__).parents[2] / "examples" / "text" / "validation.txt"
LENGTHS = [{"words": 7}, {"chars": 41}, {"tokens": 40}, {"chars": 1}, {"tokens": 1}, {"words": 1}]


@cache
def random_writer(kind: str = "bytes") -> Checkpoint:
    """Random weights: every legal token is about as likely as any other."""
    tokenizer = TextTokenizer(kind, vocab_size=400)
    tokenizer.fit([TEXTS_TO_LEARN])
    return with_random_weights(tokenizer)


def with_random_weights(tokenizer: TextTokenizer) -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=32)
        return Checkpoint(get("text"), tokenizer, Transformer(config, tokenizer.vocab_sizes).eval())


def continued(path: Path, *, kind: str = "bytes", seed: int = 0, variations: int = 1, **request: object) -> list[bytes]:
    results = continue_file(
        path, random_writer(kind), ContinuationRequest(**request), Sampling(), seed=seed, variations=variations
    )
    return [result.files[".txt"] for result in results]


@pytest.mark.parametrize("length", LENGTHS, ids=str)
@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_input_stays_and_exactly_so_much_is_added(
    tmp_path: Path, kind: str, encoding: str, length: dict[str, int]
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXTS[encoding].encode(encoding))
    for after in continued(path, kind=kind, seed=3, variations=3, **length):
        assert after.startswith(path.read_bytes())
        text = after.decode(encoding)[len(TEXTS[encoding]) :].replace("\r\n", "\n")
        assert not any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in text)
        if "chars" in length:
            assert len(text) == length["chars"]
        elif "tokens" in length:
            num_tokens = length["tokens"]
            assert len(text.encode()) == num_tokens or (kind == "bpe" and len(text.encode()) > num_tokens)
        else:
            assert len(text.split()) == length["words"] or len(text) >= 39 * length["words"]
            assert text == text.rstrip()


def test_a_word_cut_short_is_finished_as_one_token(tmp_path: Path) -> None:
    """The prompt's last token may be drawn again as a longer one; nothing of it is written twice, or otherwise."""
    path, checkpoint = tmp_path / "text.txt", random_writer("bpe")
    path.write_text("What is th")
    prompt = get("text").read_prompt(path, checkpoint.tokenizer, ContinuationRequest(chars=9), window=32)
    grammar, pieces = prompt.new_grammar(), checkpoint.tokenizer.token_bytes
    legal = {pieces[token] for token in np.flatnonzero(grammar.allowed()[0])}
    assert {b" ", b" t", b" th", b" the"} <= legal
    assert all(b" th".startswith(piece) or piece.startswith(b" th") for piece in legal)
    tokens = [pieces.index(b" t"), pieces.index(b"h"), *map(pieces.index, (b"e", b" the", b" the"))]
    for token in tokens:
        assert grammar.allowed()[0, token]
        grammar.accept(np.array([token]))
    assert np.flatnonzero(grammar.allowed()[0]).tolist() == [checkpoint.tokenizer.begin]
    assert grammar.take_text() == "e the the"
    assert prompt.complete(np.array([tokens])).files[".txt"] == b"What is the the the"


@pytest.mark.parametrize("text", ["猫", "x猫", "the caf\u00e9", "a\U0001f600"])
def test_a_last_character_of_several_tokens_is_drawn_again_whole(tmp_path: Path, text: str) -> None:
    """Else the model would read the beginning of a character, and then another one."""
    path, checkpoint = tmp_path / "text.txt", random_writer("bpe")
    path.write_bytes(text.encode())
    prompt = get("text").read_prompt(path, checkpoint.tokenizer, ContinuationRequest(chars=2), window=32)
    grammar, pieces = prompt.new_grammar(), checkpoint.tokenizer.token_bytes
    left = text[-1].encode()
    assert checkpoint.tokenizer.decode(prompt.tokens) + left == text.encode()
    while left:
        legal = {pieces[token] for token in np.flatnonzero(grammar.allowed()[0])}
        assert legal
        assert all(left.startswith(piece) or piece.startswith(left) for piece in legal)
        grammar.accept(np.array([pieces.index(left[:1])]))
        left = left[1:]


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_the_window_is_filled_with_whole_characters(tmp_path: Path, kind: str) -> None:
    path, tokenizer = tmp_path / "text.txt", random_writer(kind).tokenizer
    read = "The cat sat. " * 60
    for text, window in [(read, 32), *((JAPANESE, window) for window in (30, 31, 32, 33))]:
        path.write_bytes(text.encode())
        prompt = get("text").read_prompt(path, tokenizer, ContinuationRequest(chars=5), window=window)
        assert tokenizer.decode(prompt.tokens).decode() in text
        assert window - 5 <= prompt.tokens.shape[1] <= window
        assert prompt.tokens[0, 0] != tokenizer.begin


@pytest.mark.parametrize(("num_bytes", "num_tokens", "is_whole"), [(5, 6, True), (31, 32, True), (32, 32, False)])
def test_a_text_that_fits_the_window_begins_with_the_begin_token(
    tmp_path: Path, num_bytes: int, num_tokens: int, is_whole: bool
) -> None:
    path, tokenizer = tmp_path / "text.txt", random_writer().tokenizer
    path.write_text("a" * num_bytes)
    tokens = get("text").read_prompt(path, tokenizer, ContinuationRequest(chars=5), window=32).tokens
    assert tokens.shape == (1, num_tokens)
    assert (tokens[0, 0].item() == tokenizer.begin) is is_whole


def test_the_summary_counts_what_is_new(tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "text.txt", random_writer().tokenizer
    path.write_bytes("Käse\r\n".encode("cp1252"))
    prompt = get("text").read_prompt(path, tokenizer, ContinuationRequest(words=3), window=32)
    result = prompt.complete(tokenizer.encode("zwei\n drei für\n"))
    assert result.files[".txt"] == "Käse\r\nzwei\r\n drei für".encode("cp1252")
    assert result.summary == {"words": 3, "characters": 14, "bytes": 15, "encoding": "cp1252"}


def test_of_words_blanks_alone_are_none(tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "text.txt", random_writer().tokenizer
    path.write_text("one two")
    prompt = get("text").read_prompt(path, tokenizer, ContinuationRequest(words=1), window=32)
    assert prompt.complete(tokenizer.encode(" \n ")).files[".txt"] == b"one two"


def test_a_text_goes_on_for_200_words_if_nothing_is_said(tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "text.txt", random_writer().tokenizer
    path.write_text("one")
    prompt = get("text").read_prompt(path, tokenizer, ContinuationRequest(), window=32)
    result = prompt.complete(tokenizer.encode(" a" * 300))
    assert result.summary["words"] == 200


@pytest.mark.parametrize("name", ["a.txt.gz", "a.TXT.GZ", "a.txt.xz"])
def test_a_packed_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(InputFileError, match="is packed"):
        get("text").read_prompt(tmp_path / name, random_writer().tokenizer, ContinuationRequest(), window=32)


def test_new_text_alone_and_line_ends_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(GERMAN.encode())
    whole, alone = continued(path, chars=3000)[0], continued(path, chars=3000, new_only=True)[0]
    assert whole == path.read_bytes() + alone
    assert alone.count(b"\n") == alone.count(b"\r\n") > 3


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_new_text_alone_begins_with_the_byte_order_mark_of_the_file(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(GERMAN.encode(encoding))
    mark = "".encode(encoding)
    (whole,), (alone,) = continued(path, chars=30), continued(path, chars=30, new_only=True)
    assert mark
    assert alone.startswith(mark)
    assert whole == path.read_bytes() + alone.removeprefix(mark)
    assert len(alone.decode(encoding).replace("\r\n", "\n")) == 30


def test_a_mark_of_another_encoding_than_the_one_given_is_none(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"text")
    (alone,) = continued(path, chars=30, new_only=True, encoding="cp1252")
    assert not alone.startswith(codecs.BOM_UTF8)
    assert len(alone.decode("cp1252")) == 30


@pytest.mark.parametrize("text", ["", "x", "é", "猫" * 500, "\n", "a" * 31, "a" * 32, "a" * 33])
@pytest.mark.parametrize("kind", KINDS)
def test_short_and_odd_texts_go_on(tmp_path: Path, kind: str, text: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    (after,) = continued(path, kind=kind, chars=5)
    assert after.startswith(path.read_bytes())
    assert len(after.decode()) == len(text) + 5


def test_what_is_shown_live_is_what_is_written(tmp_path: Path) -> None:
    path, shown = tmp_path / "text.txt", []
    path.write_bytes(GERMAN.encode())
    request = ContinuationRequest(chars=200, new_only=True)
    (result,) = continue_file(path, random_writer(), request, Sampling(), on_text=shown.append)
    assert "".join(shown) == result.files[".txt"].decode().replace("\r\n", "\n")
    assert len([piece for piece in shown if piece]) == 200, "not as it comes"


@pytest.mark.parametrize("seed", range(3))
def test_of_words_too_nothing_is_shown_that_is_not_written(tmp_path: Path, seed: int) -> None:
    """Most tokens of the shipped tokenizer begin with a space, so that the one that ends a word begins another."""
    path, shown, writer = tmp_path / "text.txt", [], with_random_weights(load_tokenizer("text"))
    path.write_text("Once upon a time")
    request = ContinuationRequest(words=9, new_only=True)
    (result,) = continue_file(path, writer, request, Sampling(), seed=seed, on_text=shown.append)
    assert "".join(shown) == result.files[".txt"].decode()
    assert len([piece for piece in shown if piece]) >= 9, "not as it comes"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"bars": 3}, "--bars says nothing about text"),
        ({"seconds": 3.0}, "--seconds says nothing about text"),
        ({"picture": True}, "--picture says nothing about text"),
        ({"words": 3, "chars": 4}, "--words and --chars"),
        ({"tokens": 0}, "--tokens is 0"),
        ({"encoding": "klingon"}, "--encoding"),
        ({"soundfont": Path("piano.sf2")}, "--soundfont says nothing about text"),
    ],
)
def test_senseless_requests_are_refused(tmp_path: Path, request_: dict[str, object], expected: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text("text")
    with pytest.raises(UsageError) as error:
        continued(path, **request_)
    assert expected in str(error.value)


def test_a_packed_text_is_not_continued(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="packed"):
        continued(tmp_path / "text.txt.xz", words=3)


def test_rules_for_unicode_allow_what_python_can_read() -> None:
    """All characters but controls and surrogates, and no other bytes."""
    rules = CharacterRules.of_encoding("utf-8")
    draw = random.Random(0)
    codes = [0xA0, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x10FFFF]
    codes += [draw.randrange(0xA0, 0xD800) for _ in range(150)] + [draw.randrange(0xE000, 0x110000) for _ in range(150)]
    for code in codes:
        assert rules.run(BETWEEN, chr(code).encode()) == (BETWEEN, 1), hex(code)
    overlong = (b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80")
    for data in (*overlong, b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x1b", b"\xc2\x9b"):
        assert rules.run(BETWEEN, data)[0] == DEAD, data
    for _ in range(500):
        data, state = b"", BETWEEN
        while len(data) < 20 or state != BETWEEN:
            data += bytes([draw.choice(np.flatnonzero(rules.table[state] != DEAD).tolist())])
            state, _ = rules.run(state, data[-1:])
        data.decode("utf-8")


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "koi8-r", "ascii", "euc_kr", "big5"])
def test_rules_for_an_encoding_allow_just_what_it_has(encoding: str) -> None:
    rules = CharacterRules.of_encoding(encoding)
    for code in [*range(0x20, 0x7F), *range(0xA0, 0xD800, 7), *range(0xE000, 0xFFFE, 7)]:
        char = chr(code)
        try:
            is_there = char.encode(encoding).decode(encoding) == char
        except UnicodeError:
            is_there = False
        assert (rules.run(BETWEEN, char.encode()) == (BETWEEN, 1)) is is_there, hex(code)


@given(st.text())
@settings(max_examples=60, deadline=None)
def test_bytes_lose_nothing(text: str) -> None:
    tokenizer = TextTokenizer()
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == data
    assert tokenizer.count_units(tokens) == len(data) == len(tokenizer.describe(tokens))


def test_text8_is_as_its_script_makes_it() -> None:
    assert to_text8("In 1905, the Café—at 3 a.m.") == "in one nine zero five the cafe at three a m "
    tokenizer = TextTokenizer("text8")
    assert tokenizer.decode(tokenizer.encode("A1 b")) == b"a one b"
    assert tokenizer.vocab_sizes == (28,)


def test_documents_are_the_file_and_end_with_two_blank_lines(tmp_path: Path) -> None:
    text = "one\n\ntwo\n\n\nthree\n\n\n\n\nfour\n"
    assert split_documents(text) == ["one\n\ntwo\n\n\n", "three\n\n\n\n\n", "four\n"]
    path = tmp_path / "text.txt"
    path.write_text(text)
    tokenizer = TextTokenizer()
    documents = read_documents(path, tokenizer)
    assert b"".join(tokenizer.decode(document) for document in documents) == text.encode()
    assert all(document[0, 0] == tokenizer.begin for document in documents)
    path.write_text("")
    with pytest.raises(InputFileError, match="is empty"):
        read_documents(path, tokenizer)


def test_bpe_learns_words_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, again = TextTokenizer("bpe", vocab_size=600), TextTokenizer("bpe", vocab_size=600)
    tokenizer.fit(iter([TEXTS_TO_LEARN, tmp_path / "missing.txt"]))
    again.fit([TEXTS_TO_LEARN])
    assert tokenizer.fingerprint == again.fingerprint
    assert b" the" in tokenizer.token_bytes
    assert (tokenizer.vocab_sizes, tokenizer.begin) == ((600,), 599)
    text = "Once upon a time, in der Nähe von Köln: 猫\u2003\x00\n\n  \tthe end\U0001f600"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text.encode()
    assert tokens.shape[1] < len(text.encode())
    tokenizer.save(tmp_path)
    loaded = TextTokenizer.load(tmp_path, tokenizer.to_options())
    assert loaded.fingerprint == tokenizer.fingerprint
    assert np.array_equal(loaded.encode(text), tokens)
    shakespeare = TEXTS_TO_LEARN.read_text()
    whole = loaded.encode(shakespeare)
    monkeypatch.setattr("adaptgen.domains.text.tokenizer.CHARACTERS_AT_ONCE", 50)
    assert np.array_equal(loaded.encode(shakespeare), whole)
    (tmp_path / "tokenizer.json").write_text('{"kind": "bpe", "vocab_size": 600, "bpe": {"version": 9}}')
    with pytest.raises(CheckpointError, match="cannot be used"):
        TextTokenizer.load(tmp_path, tokenizer.to_options())


def test_bpe_of_a_tiny_corpus_leaves_tokens_unused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("aaaa bbbb")
    tokenizer = TextTokenizer("bpe", vocab_size=1000)
    tokenizer.fit([tmp_path / "a.txt"])
    assert tokenizer.vocab_sizes == (1000,)
    assert len(tokenizer.token_bytes) == 1000
    assert tokenizer.token_bytes.count(None) > 700


def test_a_tokenizer_is_saved_with_its_kind(tmp_path: Path) -> None:
    TextTokenizer("text8").save(tmp_path)
    assert TextTokenizer.load(tmp_path, {"kind": "text8"}).vocab_sizes == (28,)
    with pytest.raises(CheckpointError, match="not of kind 'bytes' with 257"):
        TextTokenizer.load(tmp_path, {"kind": "bytes"})
    mistakes = [
        ({"kind": "morse"}, "'morse'"),
        ({"size": 3}, "tokenizer.size"),
        ({"kind": "bytes", "vocab_size": 500}, "tokenizer.vocab_size"),
        ({"kind": "bpe", "vocab_size": 100}, "tokenizer.vocab_size is 100"),
    ]
    for options, expected in mistakes:
        with pytest.raises(RecipeError, match=expected):
            TextTokenizer.from_options(options)
