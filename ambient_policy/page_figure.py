"""A matplotlib figure as an element of an HTML page, in the style that all our pages share."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure


def page_figure(figure: Figure, *, salt: str, dpi: int) -> str:
    """Return a figure as one <svg> element, the same text every time.

    Args:
        salt: name of the page; ids inside its figures are derived from it.
        dpi: resolution of the parts that are drawn as pixels.
    """
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", dpi=dpi, metadata={"Date": None})
    text = buffer.getvalue()
    # Only the element itself belongs inside a page, not the XML prologue.
    return text[text.index("<svg") :]
