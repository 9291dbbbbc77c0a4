"""The font of our pictures, and text that it can draw."""

from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_NO_CHARACTER = "\uffff"


@cache
def font(size: int) -> Font:
    """Return Pillow's own font, which draws the same on every machine: ASCII and some punctuation."""
    return ImageFont.load_default(size)


def drawable(text: str) -> str:
    r"""Escape the characters that the font has no glyph for, as in `caf\xe9`, so that names stay distinct."""
    return "".join(c if c.isprintable() and _has_glyph(c) else ascii(c)[1:-1] for c in text)


def shortened(text: str, of: Font, width: int) -> str:
    """Return the text, drawable and with its middle cut out where it is longer than `width` pixels."""
    text = drawable(text)
    for length in range(len(text), 0, -1):
        short = text if length == len(text) else f"{text[: length - length // 2]}…{text[len(text) - length // 2 :]}"
        if of.getlength(short) <= width:
            return short
    return ""


@cache
def _has_glyph(c: str) -> bool:
    return c.isascii() or _mask(c) != _mask(_NO_CHARACTER)


def _mask(c: str) -> tuple[tuple[int, int], bytes]:
    mask = font(14).getmask(c)
    return mask.size, bytes(mask)
