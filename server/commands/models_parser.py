"""What `trialogue models` understands."""

from __future__ import annotations

import argparse

EXAMPLES = """\
Alone, `trialogue models` lists the models that a running server offers (--url says where).

Models are GGUF files, run by llama.cpp's server in a process of its own. Nothing reaches the
network but `search` and `pull`; HF_ENDPOINT names another hub, HF_TOKEN a key for it.

examples:
  trialogue models search qwen
  trialogue models pull Qwen/Qwen3-4B-GGUF:Q4_K_M --as qwen
  trialogue models pull https://example.org/model.gguf --sha256 HASH
  trialogue models pull ~/models/model.gguf       linked, not copied
  trialogue models list
  trialogue models check                          is every file what was pulled?
  trialogue serve --local qwen
"""


def add_models(parser: argparse.ArgumentParser) -> None:
    """Give the command its actions and their flags."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_search(actions.add_parser("search", help="look for models on the hub"))
    pull = actions.add_parser("pull", help="fetch a model; again: go on where it was cut")
    _add_pull(pull)
    listed = actions.add_parser("list", help="those that are here")
    show = actions.add_parser("show", help="all that is known of one")
    remove = actions.add_parser("rm", help="remove one")
    checked = actions.add_parser("check", help="read every file, and compare its hash")
    for one in (show, remove):
        one.add_argument("name")
    checked.add_argument("names", nargs="*", metavar="NAME", help="default: all of them")
    for one in (pull, listed, show, remove, checked):
        one.add_argument(
            "--models-folder",
            metavar="FOLDER",
            dest="setting_models_folder",
            default=argparse.SUPPRESS,
            help="where they lie [TRIALOGUE_MODELS]",
        )


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+")
    parser.add_argument("--limit", type=int, default=20, help="at most so many (20)")


def _add_pull(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", help="OWNER/NAME[:QUANT or FILE][@REVISION], an https address, or a file"
    )
    parser.add_argument("--as", dest="name", help="how it is called; default: as its file is")
    parser.add_argument("--sha256", help="what an address must bring")
    parser.add_argument(
        "--unchecked", action="store_true", help="an address: go without a sha256 to compare"
    )
