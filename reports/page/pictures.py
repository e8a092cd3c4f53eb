"""Figures as a page holds them: vector graphics inside it, as few bytes as show the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Sheet:
    """A printed page of a figure."""

    name: str
    """Of its files, without the ending."""
    alt: str
    source: Markup
    width: float


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it."""

    name: str
    title: str
    caption: Markup
    sheets: list[Sheet]
    number: int = 0
    """Its place on the page, from 1."""


_CODE = re.compile("``(.+?)``")
_LEFT_OUT = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_DIGITS = re.compile(r"(?<![\w.])(-?[1-9]\d*\.\d\d)\d+")
_SPACE = re.compile(r"\s+")
_BETWEEN = re.compile(r"> <")
_COMMAND = re.compile(r" ?\b([MLQCz]) (?=[-\d.MLQC\"])")
_ID = re.compile(r'(<\w+(?: [^<>]*?)?) id="([^"]*)"')
_REFERENCE = re.compile(r'(?<=href="#)[^"]+(?=")|(?<=url\(#)[^)]+(?=\))')
_ENCODED: dict[str, str | int | None] = {"%": "%25", "#": "%23", "&": "%26", "'": "%27"}


def in_html(docstring: str) -> Markup:
    """Return what a docstring says as HTML: between two backticks stands code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(docstring))))


def in_words(docstring: str) -> str:
    """Return what a docstring says as text alone."""
    return _CODE.sub(r"\1", docstring)


def embedded(svg: bytes) -> Markup:
    """Return a drawing of matplotlib's as the source of an image, which needs no escaping in an attribute.

    What is not seen is left out: comments, names that nothing refers to, and digits of coordinates beyond a hundredth
    of a point (those of numbers below one stay, for scales are such). Per cent signs take fewer bytes than base64.
    """
    text = _LEFT_OUT.sub("", svg.decode())
    text = _BETWEEN.sub("><", _SPACE.sub(" ", _DIGITS.sub(r"\1", text))).strip()
    text = _COMMAND.sub(r"\1", text).replace("; ", ";").replace(": ", ":").replace('" />', '"/>')
    text = _named_shortly(text.replace("xlink:href", "href"))
    encoded = text.translate(str.maketrans(_ENCODED)).replace('"', "'")
    return Markup(f"data:image/svg+xml,{encoded}")


def _named_shortly(text: str) -> str:
    """Give what a drawing refers to (glyphs, mostly) short names, and no name to anything else."""
    names = {name: f"i{place:x}" for place, name in enumerate(dict.fromkeys(_REFERENCE.findall(text)))}
    text = _ID.sub(lambda found: found[1] + (f' id="{names[found[2]]}"' if found[2] in names else ""), text)
    return _REFERENCE.sub(lambda found: names[found[0]], text)
