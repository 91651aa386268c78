"""`make_app`: a page that takes a structure and shows the page of its prediction. One prediction at a time.

A server on this machine can be reached by every web page that this machine's browser shows. So requests have to name
this server in their Host header (a page that had its own name resolve to 127.0.0.1 names its own), and what changes
anything has to come from the server's own page.
"""

import asyncio
import collections
import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bihf_jax.data.components import own_ligand
from bihf_jax.inference import Predictor
from bihf_jax.page.document import asset, data_block, escape, html_document
from bihf_jax.serving.uploads import Limits, UploadError, contents_of, file_name, parse, read_body

_LOGGER = logging.getLogger(__name__)
LOCAL_HOSTS = ("127.0.0.1", "localhost")
PAGES_KEPT = 16  # pages of the last predictions, in memory
BODY_TYPE = "application/octet-stream"  # a page of another site cannot send it without asking first
_HEADERS = {
    # Beside the policies in the documents themselves, which are stricter.
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
T = TypeVar("T")


def make_app(predictor: Predictor, *, limits: Limits | None = None, hosts: Sequence[str] = LOCAL_HOSTS) -> Starlette:
    """The application, for a server of ASGI (uvicorn).

    Args:
      predictor: the model.
      limits: of what is taken.
      hosts: names by which the server may be called.
    """
    service = _Service(predictor, limits or Limits())
    return Starlette(
        routes=[
            Route("/", service.index),
            Route("/chains", service.chains, methods=["POST"]),
            Route("/predict", service.predict, methods=["POST"]),
            Route("/pages/{token}", service.page),
        ],
        middleware=[Middleware(_SafeHeaders), Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={UploadError: _refused},
    )


class _Service:
    """What the routes do."""

    def __init__(self, predictor: Predictor, limits: Limits):
        self._predictor, self._limits = predictor, limits
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._pages: collections.OrderedDict[str, str] = collections.OrderedDict()

    async def index(self, request: Request) -> Response:
        """The page with the form."""
        return HTMLResponse(_index_page(self._predictor, self._limits))

    async def chains(self, request: Request) -> Response:
        """What the structure in the body holds: {"chains": [[id, residues], ...], "ligands": [name, ...]}."""
        data, name = await self._upload(request)
        found = await self._one_at_a_time(contents_of, data, name, None, self._limits)
        return JSONResponse(found._asdict())

    async def predict(self, request: Request) -> Response:
        """Scores the structure in the body, or its chains that are named, with its ligand that is named:
        {"page": where the page is}."""
        data, name = await self._upload(request)
        chains = request.query_params.getlist("chain") or None
        ligand = request.query_params.get("ligand") or None
        token = secrets.token_urlsafe(16)
        self._pages[token] = await self._one_at_a_time(self._page_of, data, name, chains, ligand)
        while len(self._pages) > PAGES_KEPT:
            self._pages.popitem(last=False)
        return JSONResponse({"page": f"/pages/{token}"})

    async def page(self, request: Request) -> Response:
        """The page of a prediction."""
        html = self._pages.get(request.path_params["token"])
        if html is None:
            return PlainTextResponse(
                f"This page is gone: the last {PAGES_KEPT} are kept, until the server stops. Predict again.", 404
            )
        return HTMLResponse(html)

    def _page_of(self, data: bytes, name: str, chains: Sequence[str] | None, ligand: str | None) -> str:
        protein = parse(data, name, chains, self._limits)
        try:
            # Looked up in the structure here: the predictor would take what looks like a path for one.
            molecule = own_ligand(protein, ligand) if ligand else None
            return self._predictor.predict(protein, ligand=molecule).page()
        except ValueError as error:  # too long, or cannot be scored or shown: the message says it
            raise UploadError(400, str(error)) from error

    async def _upload(self, request: Request) -> tuple[bytes, str]:
        """(content, name) of the file that a request brings."""
        _refuse_other_sites(request)
        if request.headers.get("content-type", "") != BODY_TYPE:
            raise UploadError(415, f"the body must be the file itself, with the content type {BODY_TYPE}")
        return await read_body(request, self._limits), file_name(request.query_params.get("name", ""))

    async def _one_at_a_time(self, work: Callable[..., T], *args: Any) -> T:
        """What `work` gives, in a thread, when those before it are done."""
        if self._waiting >= self._limits.waiting:
            raise UploadError(503, f"{self._waiting} structures are waiting already; try again in a while")
        self._waiting += 1
        try:
            async with self._turn:
                return await run_in_threadpool(work, *args)
        finally:
            self._waiting -= 1


def _refuse_other_sites(request: Request) -> None:
    """403 where a browser says that the request comes from a page of another site."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if site not in ("same-origin", "none") or (origin is not None and origin != own):
        raise UploadError(403, "requests of other sites are refused")


async def _refused(request: Request, error: UploadError) -> Response:
    _LOGGER.info("%s %d: %s", request.url.path, error.status, error)
    return JSONResponse({"error": str(error)}, error.status)


class _SafeHeaders:
    """Adds `_HEADERS` to every response."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _index_page(predictor: Predictor, limits: Limits) -> str:
    title = f"bihf_jax: {predictor.task.label_names[-1]} ({predictor.task.name})"
    needs = {"needsLigand": predictor.ligand_needs.any}
    body = "\n".join(
        [
            f'<header><h1>{escape(title)}</h1><p class="model">{escape(predictor.description)}</p></header>',
            asset("serve.html"),
            data_block("serve-data", {"maxBytes": limits.body_bytes, "bodyType": BODY_TYPE, **needs}),
        ]
    )
    return html_document(title, body, styles=["common.css", "serve.css"], scripts=["serve.js"], asks_own_server=True)
