"""`/`: a page to try the farm with, which uses only the public API.

It holds no secret: the user types the key, or it comes in the URL's fragment, which browsers do not
send.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)
PAGE = Path(__file__).with_name("console.html")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src *; "
        "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
def console() -> HTMLResponse:
    """Return the page. It loads nothing from anywhere else."""
    return HTMLResponse(PAGE.read_text(), headers=HEADERS)
