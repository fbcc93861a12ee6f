"""The options of `kir rules suggest`: light, since every command line is parsed with them."""

import argparse
from typing import Final

NO_MODEL: Final = "none"


def suggest_options(parser: argparse.ArgumentParser) -> None:
    """Adds what `suggest` takes besides the options of every command that optimizes."""
    model = parser.add_argument_group("who suggests")
    model.add_argument("--model", metavar="M", default=NO_MODEL, help="a model of the server; `none` (default): enumeration, no model")
    model.add_argument("--base-url", metavar="URL", help="any server with the OpenAI chat API (default $KIR_BASE_URL, $OPENAI_BASE_URL)")
    model.add_argument("--rounds", metavar="N", type=int, default=3, help="questions a kernel set is worth (default 3)")
    model.add_argument(
        "--budget", metavar="LIST", default="", help="tokens=200000,usd=2,seconds=600: what may be spent (default tokens=200000)"
    )
    model.add_argument("--price", metavar="IN,OUT", help="USD for a million tokens read and written; needed for a budget in usd")
    model.add_argument("--timeout", metavar="S", type=float, default=120.0, help="seconds that the server may be silent (default 120)")
    model.add_argument("--retries", metavar="N", type=int, default=4, help="times to ask again after a failure (default 4)")
    model.add_argument("--dry-run", action="store_true", help="print the first prompt; ask nobody")
    files = parser.add_argument_group("what is kept")
    files.add_argument("--book", metavar="FILE", help="append the rules kept to this book (default: print them)")
    files.add_argument("--record", metavar="FILE", help="write the whole conversation here (JSON lines, without the key)")
    files.add_argument("--replay", metavar="FILE", help="answer from a recording: no network, no key")
    files.add_argument("--database", metavar="FILE", help="what was tried before (default: suggestions.sqlite in the cache directory)")
