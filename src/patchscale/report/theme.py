"""The one place for colours, type and marks: matplotlib figures, plotly figures and the page's CSS all read it.

Three colours carry provenance and nothing else does: `measured`, `predicted` (fits, bands) and `published`. They keep
a CIE76 distance above 25 in normal, protan, deutan and tritan vision, and each also has a mark of its own (dot, line,
diamond). Patch sizes are shades of `measured`: the finer the patch, the more ink.
"""

from __future__ import annotations

from typing import Any

LIGHT: dict[str, str] = {
    "page": "#ffffff",
    "panel": "#f7f7f5",
    "line": "#e3e3df",
    "grid": "#ecece8",
    "ink": "#1b1d21",
    "soft": "#5c6068",
    "measured": "#1f6fb4",
    "predicted": "#c8500a",
    "published": "#7a2450",
    "coarse": "#6fa6d8",
    "fine": "#0b2f5c",
}
DARK: dict[str, str] = {
    "page": "#14171c",
    "panel": "#1b1f26",
    "line": "#2d333d",
    "grid": "#262b34",
    "ink": "#e9ebee",
    "soft": "#a2a8b3",
    "measured": "#5fa8f0",
    "predicted": "#f5914a",
    "published": "#eab9cc",
    "coarse": "#3b76b3",
    "fine": "#d8ebff",
}
FONTS = ["Inter", "Helvetica Neue", "Helvetica", "Arial", "Liberation Sans", "DejaVu Sans", "sans-serif"]
SYMBOLS = ["circle", "square", "triangle-up", "x", "star", "hexagon", "pentagon", "cross"]  # plotly's names, by model
MARKERS = ["o", "s", "^", "X", "*", "h", "p", "P"]  # matplotlib's names for the same shapes
PROVENANCE = ("measured", "predicted", "published")
COUNTED = "counted from shapes, predicted"  # what points are called where nothing was trained


def shades(count: int, palette: dict[str, str]) -> list[str]:
    """`count` shades from `coarse` to `fine`, evenly spaced; a single one is `measured` itself."""
    if count <= 1:
        return [palette["measured"]] * count
    start, middle, end = (_rgb(palette[name]) for name in ("coarse", "measured", "fine"))
    return [_along(start, middle, end, index / (count - 1)) for index in range(count)]


def page_theme() -> dict[str, Any]:
    """What the page's scripts need: both palettes, fonts, symbols and the name of counted points."""
    return {"light": LIGHT, "dark": DARK, "font": css_fonts(), "symbols": SYMBOLS, "counted": COUNTED}


def css_variables() -> str:
    """CSS custom properties for light (default), dark by the system's wish, and either by the reader's choice."""
    light, dark = (";".join(f"--{name}:{value}" for name, value in palette.items()) for palette in (LIGHT, DARK))
    return (
        f":root{{color-scheme:light;--font:{css_fonts()};{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\n"
        f"@media screen{{:root[data-theme=dark]{{color-scheme:dark;{dark}}}}}\n"
    )


def css_fonts() -> str:
    """The font list as CSS writes it, the system's own face first."""
    return ",".join(
        ["system-ui", "-apple-system", "'Segoe UI'", "Roboto", *(f"'{font}'" for font in FONTS[:-1]), FONTS[-1]]
    )


def matplotlib_style(palette: dict[str, str] = LIGHT) -> Any:
    """rcParams for papers: text stays text (Type 42, SVG text), thin axes, no top and right frame."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": FONTS[:-1],
        "font.size": 8.5,
        "axes.titlesize": 8.5,
        "axes.labelsize": 8.5,
        "axes.edgecolor": palette["soft"],
        "axes.labelcolor": palette["ink"],
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": palette["grid"],
        "grid.linewidth": 0.7,
        "xtick.color": palette["soft"],
        "ytick.color": palette["soft"],
        "xtick.labelcolor": palette["ink"],
        "ytick.labelcolor": palette["ink"],
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.4,
        "figure.facecolor": palette["page"],
        "axes.facecolor": palette["page"],
        "text.color": palette["ink"],
        "savefig.bbox": "tight",
        "savefig.dpi": 200,
        "svg.fonttype": "none",
        "svg.hashsalt": "patchscale",
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
    }


def log_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round tick values inside [low, high] for a log axis: 1-2-5 steps over decades, even steps within one."""
    import math

    if not 0 < low < high:
        return [low] if low > 0 else []
    if high / low > 4:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
            if len(ticks) <= 2 * wanted:
                return ticks
        return ticks[:: math.ceil(len(ticks) / (2 * wanted))]
    rough = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step)
    return [round(index * step, 12) for index in range(first, math.floor(high / step) + 1)]


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _along(start: tuple, middle: tuple, end: tuple, place: float) -> str:
    low, high, part = (start, middle, place * 2) if place <= 0.5 else (middle, end, place * 2 - 1)
    return "#" + "".join(f"{round(a + (b - a) * part):02x}" for a, b in zip(low, high, strict=True))
