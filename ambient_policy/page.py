"""HTML pages that are whole in themselves: from a template to a file, and figures in one style."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from matplotlib.figure import Figure


def write_page(page: Path, template: str, package: str = "ambient_policy", **values: Any) -> None:
    """Write `page` from a template beside the code of `package`; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(values)
    page.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a browser that reloads never sees half a page.
    partial = page.with_name(f".{page.name}.partial-{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(page)


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
