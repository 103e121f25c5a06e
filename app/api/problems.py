"""Errors as `application/problem+json` (RFC 9457), each with a stable `code`; no stack traces."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.errors import Refused, Unavailable
from app.storage.objects import StorageError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = structlog.get_logger("app.api")


class ProblemResponse(JSONResponse):
    """The form of every error answer of the API."""

    media_type = "application/problem+json"


def install(app: FastAPI) -> None:
    """Answer every error of the application as a problem."""
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OperationalError, _away)
    app.add_exception_handler(InterfaceError, _away)
    app.add_exception_handler(PoolTimeoutError, _away)
    app.add_exception_handler(StorageError, _away)
    app.add_exception_handler(Exception, _bug)


def problem(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> ProblemResponse:
    """Return one problem; `more` are additional members, such as `fields`."""
    body = {
        "type": f"urn:renderfarm:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **more,
    }
    return ProblemResponse(body, status_code=status, headers=headers)


async def refused(_: Request, error: Exception) -> ProblemResponse:
    """Answer a refusal: its status, code, detail and fields."""
    assert isinstance(error, Refused)  # noqa: S101  (what the handler was installed for)
    more = {"fields": [asdict(field) for field in error.fields]} if error.fields else {}
    return problem(error.status, error.code, error.detail, _headers(error), **more)


def _headers(error: Refused) -> dict[str, str]:
    if error.status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    retry_after_s = getattr(error, "retry_after_s", None)
    return {"Retry-After": str(retry_after_s)} if retry_after_s is not None else {}


async def _http(_: Request, error: Exception) -> ProblemResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  (what the handler was installed for)
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, code, str(error.detail), headers)


async def _away(request: Request, error: Exception) -> ProblemResponse:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()
    log.warning("database_unavailable", path=request.url.path, cause=cause[0] if cause else "")
    return await refused(request, Unavailable("cannot connect to the database; try again"))


async def _bug(request: Request, error: Exception) -> ProblemResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    return problem(500, "internal_error", "an unexpected error in the farm; it has been logged")
