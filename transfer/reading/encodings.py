"""The encoding of a text file, found from its first bytes, and any encoding as UTF-8.

Owns UTF-8, UTF-16, UTF-32 and GB18030, found by what the bytes are; every other encoding has to be named by a person,
since a wrong guess would store gibberish without an error. It does not know what the text holds.
"""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO

SAMPLE_BYTES = 4 * 2**20
CHUNK_BYTES = 256 * 2**10
MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)
# The characters that make up a third or more of any Chinese text; Korean, Cyrillic or accented Latin bytes read as
# GB18030 hold next to none of them.
FREQUENT = set(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点"
    "正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿"
    "原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德"
    "资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交"
    "规万取拉格望觉术领共确传师观清今切院让识候带导争运笔请谢吗呢吧啊，。、？！：；（）《》“”"
)
FREQUENT_SHARE = 0.25
LATER_NULS = 0.95


class UnknownEncoding(ValueError):
    """The bytes are in none of the encodings that are found by themselves."""


def detect(sample: bytes) -> str:
    """Return the encoding of a text from its first bytes, a name that `as_utf8` takes. An empty text is UTF-8.

    Raises UnknownEncoding when it is none of UTF-8, UTF-16, UTF-32 and GB18030.
    """
    for mark, encoding in MARKS:
        if sample.startswith(mark):
            return encoding
    if wide := _utf16_without_mark(sample):
        return wide
    if _decoded(sample, "utf-8") is not None:
        return "utf-8"
    chinese = _decoded(sample, "gb18030")
    if chinese is not None and _reads_as_chinese(chinese):
        return "gb18030"
    raise UnknownEncoding


def known(encoding: str) -> bool:
    """Return whether there is a text encoding of this name."""
    try:
        found = codecs.lookup(encoding)
        codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError):
        return False
    return bool(getattr(found, "_is_text_encoding", True))


def shown(encoding: str) -> str:
    """Return an encoding as people write it: "UTF-16", "GB18030"."""
    return encoding.upper().removesuffix("-LE").removesuffix("-BE")


def as_utf8(file: BinaryIO, encoding: str) -> io.BufferedReader:
    """Return a file's text as a stream of UTF-8 bytes without a byte order mark.

    UTF-8 is passed on as it is: its faults are found row by row. Another encoding is decoded strictly: reading raises
    UnicodeError at the first byte that is not of it.
    """
    name = codecs.lookup(encoding).name
    if name in ("utf-8", "utf-8-sig", "ascii"):
        reader = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file, CHUNK_BYTES)
        # peek gives what one read gives, which may be less than a mark in a file that arrives in drops.
        if reader.peek(3)[:3] == codecs.BOM_UTF8:
            reader.read(3)
        return reader
    return io.BufferedReader(_Transcoded(file, name), CHUNK_BYTES)


class _Transcoded(io.RawIOBase):
    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self._file, self._left, self._ended = file, memoryview(b""), False
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self._left and not self._ended:
            chunk = self._file.read(CHUNK_BYTES)
            self._ended = not chunk
            text = self._decoder.decode(chunk, final=self._ended)
            self._left = memoryview(text.removeprefix("\ufeff").encode("utf-8"))
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _decoded(sample: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample, final=len(sample) < SAMPLE_BYTES)
    except UnicodeError:
        return None


def _utf16_without_mark(sample: bytes) -> str | None:
    """Return UTF-16 in the byte order that puts the zeros of its brackets, commas and line ends in one half."""
    head = sample[: 64 * 2**10]
    zeros = head.count(0)
    # Wide Chinese text has few zeros but is no UTF-8; wide plain text is also UTF-8, and half of it is zeros. A zero or
    # two in UTF-8 are faults of their rows.
    least = 0.2 if zeros and _decoded(sample, "utf-8") is not None else 0.01
    if zeros < max(1, len(head) * least):
        return None
    for encoding, half in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if half.count(0) >= zeros * LATER_NULS and _decoded(sample, encoding) is not None:
            return encoding
    return None


def _reads_as_chinese(text: str) -> bool:
    foreign = [character for character in text[: 2**16] if ord(character) > 127]
    if not foreign:  # the first 64 thousand characters are plain; look where the others are
        foreign = [character for character in text if ord(character) > 127]
    return sum(character in FREQUENT for character in foreign) >= FREQUENT_SHARE * len(foreign)
