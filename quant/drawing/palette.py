"""The colours of everything that is drawn, light and dark, and how each scheme and dtype looks.

A figure is drawn once, in the light colours. In the HTML report each of them then becomes a variable of the page
(`quant.drawing.svg`), which the dark scheme gives another value. So no two have the same value.

Colour says the number format, the same for ours and bitsandbytes'; marker and filling say which scheme it is, so that
nothing depends on colour alone. Text has a contrast of at least 4.5 to 1 to what it stands on, lines and markers of at
least 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11), and the formats stay apart for people who do not see red, green or blue:
tests compute all of that from the values here.
"""

from dataclasses import dataclass

LIGHT = {
    "page": "#ffffff",
    "panel": "#f5f7f9",
    "ink": "#1c2127",
    "muted": "#555e68",
    "line": "#d3d9df",
    "link": "#0a58b8",
    "int8": "#0d69a5",
    "nf4": "#18a16a",
    "fp4": "#b1611d",
    "int4": "#791068",
}
DARK = {
    "page": "#101418",
    "panel": "#191f25",
    "ink": "#e4e8ec",
    "muted": "#a0aab4",
    "line": "#353d45",
    "link": "#74b3fb",
    "int8": "#6aa9db",
    "nf4": "#2de69b",
    "fp4": "#e46c4a",
    "int4": "#c946f0",
}
"""Name -> colour: page and panel to stand on, ink and muted for text, line for grids, one for each number format."""
TEXT = ("ink", "muted", "link")
FORMATS = ("int8", "nf4", "fp4", "int4")


@dataclass(frozen=True)
class Look:
    """How a scheme is drawn. colour: a name of the palette; marker: matplotlib's; filled: or only its outline."""

    colour: str
    marker: str
    filled: bool = True


LOOKS = {
    "baseline": Look("ink", "X"),
    "w8a16": Look("int8", "s"),
    "w8a16-full": Look("int8", "D"),
    "nf4": Look("nf4", "o"),
    "nf4-dq": Look("nf4", "P"),
    "fp4": Look("fp4", "^"),
    "int4": Look("int4", "v"),
    "bnb-int8": Look("int8", "s", filled=False),
    "bnb-fp4": Look("fp4", "^", filled=False),
    "bnb-nf4": Look("nf4", "o", filled=False),
}
"""Of every variant; one that has none here cannot be drawn."""

DTYPES = {
    "float32": ("muted", ""),
    "bfloat16": ("muted", "//"),
    "float16": ("muted", "xx"),
    "int8": ("int8", ""),
    "uint8": ("nf4", ""),
}
OTHER_DTYPE = ("fp4", "..")
"""Colour and hatching of memory by dtype."""
