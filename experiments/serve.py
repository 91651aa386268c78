"""A page in the browser that takes a structure and shows its scores.

    python -m experiments.serve --checkpoint=RUN

Then open http://127.0.0.1:8000. It needs `pip install 'bihf_jax[serve]'`, and serves this machine alone unless
--host says otherwise. docs/serve.md

Exit code 0: stopped, 1: not begun, and why.
"""

import logging
import sys
from collections.abc import Sequence

from experiments import inference, logs

_LOGGER = logging.getLogger("bihf_jax.serve")
_MAX_SLOTS = 4096  # of a structure: a page that is looked at, not a folder that runs overnight


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    try:
        import uvicorn

        from bihf_jax.serving.app import LOCAL_HOSTS, make_app
        from bihf_jax.serving.uploads import Limits
    except ImportError as error:
        _LOGGER.error("%s; the page needs it: pip install 'bihf_jax[serve]'", error)
        return inference.NOTHING_BEGUN

    description = "A page in the browser that takes a structure and shows its scores."
    parser = inference.model_parser("serve", description, max_slots=_MAX_SLOTS)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to")
    parser.add_argument("--port", type=int, default=8000, help="port to bind to")
    parser.add_argument(
        "--names", type=lambda text: text.split(","), default=(), help="further names of the server, joined by commas"
    )
    parser.add_argument("--max_megabytes", type=float, default=Limits.body_bytes / 1e6, help="of a file")
    parser.add_argument("--parse_seconds", type=float, default=Limits.parse_seconds, help="for reading a structure")
    args = parser.parse_args(argv)

    def serve() -> int:
        limits = Limits(body_bytes=int(args.max_megabytes * 1e6), parse_seconds=args.parse_seconds)
        predictor = inference.load_predictor(args)
        if args.host not in LOCAL_HOSTS:
            _LOGGER.warning(
                "bound to %s: whoever reaches this address can use the model. There is no password and no encryption",
                args.host,
            )
        app = make_app(predictor, limits=limits, hosts=[*LOCAL_HOSTS, args.host, *args.names])
        _LOGGER.info("open http://%s:%d", args.host, args.port)
        uvicorn.run(app, host=args.host, port=args.port, log_level="warning", server_header=False)
        return 0

    return inference.run(serve)


if __name__ == "__main__":
    logs.show_progress()
    sys.exit(main())
