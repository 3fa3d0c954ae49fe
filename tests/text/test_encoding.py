"""Reading text files: whichever encoding they are in, or a sentence that says why not."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from languages import LANGUAGES

from adaptgen.domains.text.encoding import FEW, read_text
from adaptgen.errors import InputFileError, UsageError

GERMAN = "Das Mädchen lief über die Straße, weil der Bäcker früh öffnete.\nKöln ist größer als Düren.\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 4


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("plain ASCII\n", "ascii", "utf-8"),
        (GERMAN, "utf-8", "utf-8"),
        (GERMAN, "utf-8-sig", "utf-8"),
        (GERMAN, "utf-16", "utf-16-le"),
        (GERMAN, "utf-32", "utf-32-le"),
        (GERMAN, "cp1252", "cp1252"),
        (JAPANESE, "cp932", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        ('<?xml version="1.0" encoding="iso-8859-7"?>\n<p>Ελλάδα</p>', "iso8859-7", "iso8859-7"),
        ('<html><head><meta charset="koi8-r"></head>Москва', "koi8-r", "koi8-r"),
        ("# -*- coding: cp866 -*-\n# Привет\n", "cp866", "cp866"),
        ("", "utf-8", "utf-8"),
        ("Im Café", "cp1252", "cp1252"),
        ('<?xml version="1.0" encoding="UTF-16"?><p>saved elsewhere</p>', "ascii", "utf-8"),
        ('# How to write <meta charset="iso-8859-1"> für Anfänger\n', "utf-8", "utf-8"),
        ("Decoding: punycode\n", "ascii", "utf-8"),
        ("# -*- coding: latin-1 -*-\nplain so far\n", "ascii", "iso8859-1"),
        ("# -*- coding: utf-8-sig -*-\nplain so far\n", "ascii", "utf-8"),
        ("He sang “la, la” in the café…", "cp1252", "cp1252"),
    ],
)
def test_encodings_that_can_be_told(tmp_path: Path, text: str, encoding: str, name: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    found = read_text(path)
    assert (found.text, found.encoding) == (text, name)
    assert (found.data + found.encode("más"[:1])).decode(encoding) == text + "m"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_read_in_its_own_code_page(tmp_path: Path, language: str) -> None:
    code_page, whole = LANGUAGES[language]
    path = tmp_path / "text.txt"
    for text in (whole[:110], whole, whole.replace(". ", ".\n") * 5):
        data = text.encode(code_page)
        if sum(byte >= 0x80 for byte in data) >= FEW:
            path.write_bytes(data)
            assert read_text(path).text == text


@pytest.mark.parametrize("language", ["Polish", "Czech", "Croatian"])
def test_latin_2_is_told_from_the_code_page_of_windows(tmp_path: Path, language: str) -> None:
    text = LANGUAGES[language][1]
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode("iso8859-2"))
    found = read_text(path)
    assert (found.text, found.encoding) == (text, "iso8859-2")


def test_french_with_some_german_is_still_western(tmp_path: Path) -> None:
    text = LANGUAGES["French"][1] + "\n" + LANGUAGES["German"][1]
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode("cp1252"))
    assert read_text(path).text == text


def test_a_damaged_text_is_read_if_its_encoding_is_given(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes((GERMAN * 3).encode() + b"\xff")
    assert read_text(path, encoding="cp1252").text.endswith("ÿ")


def test_a_declaration_far_down_declares_nothing(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("Ä\n\n\n# coding: cp866\n".encode())
    assert read_text(path).encoding == "utf-8"


@pytest.mark.parametrize(("end", "line_end"), [("\r\n", "\r\n"), ("\r", "\r"), ("\n", "\n")])
def test_line_ends_are_kept(tmp_path: Path, end: str, line_end: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(f"one{end}two{end}three\n".encode())
    found = read_text(path)
    assert found.text == "one\ntwo\nthree\n"
    assert found.encode("\nfour") == f"{line_end}four".encode()


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_packed_files_are_read(tmp_path: Path, suffix: str, pack: object) -> None:
    path = tmp_path / f"text.txt{suffix}"
    path.write_bytes(pack(GERMAN.encode()))
    assert read_text(path).text == GERMAN


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.txt", b"abc\0def", "character 3 is a null"),
        ("a.txt", "Größe".encode()[:-2], "ends inside a character, at byte"),
        ("a.txt", "I love you 😀".encode()[:-2], "ends inside a character, at byte 11"),
        (
            "a.txt",
            (GERMAN * 3).encode() + b"\xff\n",
            f"is UTF-8 but for the byte 0xFF at {len((GERMAN * 3).encode())}.",
        ),
        ("a.txt", JAPANESE.encode() + b"\xe9t\xe9", f"is UTF-8 but for the byte 0xE9 at {len(JAPANESE.encode())}."),
        ("a.txt", b'<?xml encoding="ascii"?>\n\xff', "is not ascii, which is what it declares: byte 25"),
        ("a.txt", b"\xef\xbb\xbfab\xff", "is not utf-8, which is what its byte order mark says: byte 5"),
        ("a.txt.xz", b"no such thing", "cannot be read"),
        ("a.txt.gz", b"no such thing", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"damaged" * 100)[:20] + b"\xff" * 9, "cannot be read"),
        ("a.txt.xz", lzma.compress(b"cut off" * 100)[:-20], "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputFileError) as error:
        read_text(path)
    assert expected in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("data", "given", "name"),
    [
        ("Hé".encode("utf-16"), "utf-16", "utf-16-le"),
        (b"\xfe\xff" + "Hé".encode("utf-16-be"), "utf-16", "utf-16-be"),
        ("Hé".encode("utf-16-le"), "utf-16", "utf-16-le"),
        ("Hé".encode("utf-8-sig"), "utf-8-sig", "utf-8"),
        ("Hé".encode(), "utf-8-sig", "utf-8"),
    ],
)
def test_a_byte_order_mark_is_written_at_the_beginning_only(tmp_path: Path, data: bytes, given: str, name: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    found = read_text(path, encoding=given)
    assert (found.text, found.encoding) == ("Hé", name)
    assert found.encode("x") == "x".encode(name)


def test_an_encoding_given_is_taken_and_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("été".encode("cp850"))
    assert read_text(path, encoding="cp850").text == "été"
    for name in ("klingon", "base64", "utf-7", "unicode_escape", "raw_unicode_escape", "\0"):
        with pytest.raises(UsageError, match="--encoding"):
            read_text(path, encoding=name)
    with pytest.raises(InputFileError, match="which was given with --encoding: byte 0"):
        read_text(path, encoding="utf-8")
    with pytest.raises(InputFileError, match="cannot be read"):
        read_text(tmp_path / "nowhere.txt")
