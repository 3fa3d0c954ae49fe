"""Reading text files: whichever encoding they are in, or a sentence that says why not."""

from __future__ import annotations

import codecs
import gzip
import lzma
from pathlib import Path

import pytest
from languages import LANGUAGES

from adaptgen.domains.text.encoding import FEW, read_text
from adaptgen.errors import InputFileError, UsageError

GERMAN = "Das Mädchen lief über die Straße, weil der Bäcker früh öffnete.\nKöln ist größer als Düren.\n"
KOREAN = "그는 아침에 일어나 창문을 열고 마당을 바라보았다. 비가 그친 뒤라 공기가 맑았다.\n" * 4
CHINESE = "那天早晨他很早就起来，打开窗户，看着院子里的树。雨已经停了，空气很清新。\n" * 4
TAIWANESE = "那天早晨他很早就起來，打開窗戶，看著院子裡的樹。雨已經停了，空氣很清新。\n" * 4
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
        ("<?xml version='1.0' encoding = 'iso-8859-7' ?>\n<p>Ελλάδα</p>", "iso8859-7", "iso8859-7"),
        ('<META HTTP-EQUIV=Content-Type CONTENT="text/html;charset=KOI8-R">Москва', "koi8-r", "koi8-r"),
        ("<html><!--" + "-" * 900 + "--><head><meta charset=koi8-r></head>Москва", "koi8-r", "koi8-r"),
        ("# -*- coding: cp866 -*-\n# Привет\n", "cp866", "cp866"),
        ("#!/usr/bin/python\n# vim: set fileencoding=cp866 :\n# Привет\n", "cp866", "cp866"),
        ("#coding:cp866\n# Привет\n", "cp866", "cp866"),
        ("", "utf-8", "utf-8"),
        ("Im Café", "cp1252", "cp1252"),
        ('<?xml version="1.0" encoding="UTF-16"?><p>saved elsewhere</p>', "ascii", "utf-8"),
        ('<?xml version="1.0" encoding="UTF-32"?><p>saved elsewhere</p>', "ascii", "utf-8"),
        ('# How to write <meta charset="iso-8859-1"> für Anfänger\n', "utf-8", "utf-8"),
        ("Decoding: punycode\n", "ascii", "utf-8"),
        ("# -*- coding: latin-1 -*-\nplain so far\n", "ascii", "iso8859-1"),
        ("# -*- coding: utf-8-sig -*-\nplain so far\n", "ascii", "utf-8"),
        ("He sang “la, la” in the café…", "cp1252", "cp1252"),
        ("El niño pequeño comió una manzana mañana por", "cp1252", "cp1252"),
        ("第1章、", "cp932", "cp932"),
        (KOREAN, "euc_kr", "euc_kr"),
        (CHINESE, "gb18030", "gb18030"),
        (TAIWANESE, "big5", "big5"),
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


@pytest.mark.parametrize("code_page", ["cp850", "mac_roman"])
def test_other_code_pages_of_french_are_read_too(tmp_path: Path, code_page: str) -> None:
    text = LANGUAGES["French"][1]
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(code_page))
    assert read_text(path).text == text


def test_french_with_some_german_is_still_western(tmp_path: Path) -> None:
    text = LANGUAGES["French"][1] + "\n" + LANGUAGES["German"][1]
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode("cp1252"))
    assert read_text(path).text == text


def test_a_damaged_text_is_read_if_its_encoding_is_given(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes((GERMAN * 3).encode() + b"\xff")
    assert read_text(path, encoding="cp1252").text.endswith("ÿ")


@pytest.mark.parametrize("text", ["\n\n# coding: cp866\n", "-" * 1020 + '<meta charset="koi8-r">'])
def test_a_declaration_far_down_declares_nothing(tmp_path: Path, text: str) -> None:
    """An editor's line stands in the first two, and the others in the first kilobyte."""
    path = tmp_path / "text.txt"
    path.write_text(text)
    assert read_text(path).encoding == "utf-8"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "cp932"])
@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_line_ends_are_kept(tmp_path: Path, end: str, encoding: str) -> None:
    """Of several kinds, new text has the one that is used most, wherever the others stand."""
    path = tmp_path / "text.txt"
    for text, read in [
        (f"one{end}two{end}three\n", "one\ntwo\nthree\n"),
        (f"\none\r\n\rtwo{end}{end}three{end}", "\none\n\ntwo\n\nthree\n"),
        (f"one{end}{end}two", "one\n\ntwo"),
    ]:
        path.write_bytes(text.encode(encoding))
        found = read_text(path, encoding=encoding)
        assert found.text == read
        assert found.data == text.encode(encoding)
        assert found.encode("\nfour\n") == f"{end}four{end}".encode(encoding)


def test_a_text_without_a_line_end_gets_newlines(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"one")
    assert read_text(path).encode("\ntwo") == b"\ntwo"


@pytest.mark.parametrize("num_lines", [300, 40_000])
@pytest.mark.parametrize("language", ["German", "Polish", "Russian", "Greek", "Turkish"])
def test_letters_after_a_long_stretch_of_ascii_tell_the_encoding(tmp_path: Path, language: str, num_lines: int) -> None:
    code_page, end = LANGUAGES[language]
    path = tmp_path / "text.txt"
    text = "plain so far, as a licence is\n" * num_lines + end
    path.write_bytes(text.encode(code_page))
    assert read_text(path).text == text


@pytest.mark.parametrize("looked_at", range(300, 304))
def test_the_part_that_is_looked_at_ends_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr("adaptgen.domains.text.encoding.LOOKED_AT", looked_at)
    path = tmp_path / "text.txt"
    for text, encoding in ((JAPANESE, "cp932"), (TAIWANESE, "big5"), (KOREAN, "euc_kr")):
        path.write_bytes((3 * text).encode(encoding))
        assert read_text(path).text == 3 * text


def test_utf_16_without_a_mark_is_told_if_it_has_few_nulls(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    text = LANGUAGES["Greek"][1] + "\n" + JAPANESE
    path.write_bytes(text.encode("utf-16-le"))
    assert read_text(path).text == text


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress), (".GZ", gzip.compress)])
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
        ("a.txt", ("\ufffd" * 9 + "ä" * 20).encode() + b"\xff\n", "is UTF-8 but for the byte 0xFF at 67."),
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
        ("Hé".encode("utf-32-le"), "utf-32", "utf-32-le"),
        (codecs.BOM_UTF32_BE + "Hé".encode("utf-32-be"), "utf-32", "utf-32-be"),
        (codecs.BOM_UTF32_BE + "Hé".encode("utf-32-be"), None, "utf-32-be"),
        (codecs.BOM_UTF16_BE + "Hé".encode("utf-16-be"), None, "utf-16-be"),
        ("Hé".encode("utf-8-sig"), "utf-8-sig", "utf-8"),
        ("Hé".encode(), "utf-8-sig", "utf-8"),
    ],
)
def test_a_byte_order_mark_is_written_at_the_beginning_only(
    tmp_path: Path, data: bytes, given: str | None, name: str
) -> None:
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
