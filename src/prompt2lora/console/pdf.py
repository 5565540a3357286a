"""A report as PDF: A4 pages with numbers, in a font that has Japanese.

In: the HTML of a report. Out: the bytes of a PDF. Nothing is fetched for it, from this machine or elsewhere. It draws
with Pango, a library of the system: where that is missing there is no PDF, and the page prints as well. Without
HarfBuzz-Subset, another one, fonts are cut down by fontTools; the PDF looks the same.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

_FONTS = '"Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", sans-serif'
_SHEET = f"""
@page {{
  size: A4; margin: 18mm 16mm 20mm;
  @bottom-right {{ content: counter(page) " / " counter(pages); font: 9pt {_FONTS} }}
}}
html {{ font-size: 10.5pt }}
html body {{ font-family: {_FONTS}; font-size: 1rem; max-width: none; margin: 0; padding: 0 }}
h1 {{ margin-top: 0 }}
"""


@cache
def can_write() -> bool:
    """Whether this machine can make PDFs."""
    try:
        _library()
    except (ImportError, OSError):  # the package itself, or the library that it draws with
        return False
    return True


def pdf(page: str) -> bytes:
    weasyprint = _library()
    nothing = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
    sheet = weasyprint.CSS(string=_SHEET)
    made: bytes = weasyprint.HTML(string=page, url_fetcher=nothing).write_pdf(stylesheets=[sheet])
    return made


def _library() -> Any:
    with warnings.catch_warnings():  # that HarfBuzz-Subset is missing is no fault of who reads a report
        warnings.filterwarnings("ignore", "HarfBuzz-Subset", DeprecationWarning)
        import weasyprint
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False  # half pictures pass otherwise (findings/weasyprint-setting-of-pillow.sh)
    return weasyprint
