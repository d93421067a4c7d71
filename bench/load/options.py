"""What users of bench/load are told on locust's command line."""

from argparse import Namespace
from typing import cast

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from bench.load.talk import Sizes


@events.init_command_line_parser.add_listener
def _add(parser: LocustArgumentParser) -> None:
    parser.add_argument("--model", default="sim-8b", help="The model that users ask for.")
    parser.add_argument("--tenants", type=int, default=8, help="Shared system prompts.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of all that users say.")
    parser.add_argument("--think", type=float, default=2.0, help="Mean time to think, seconds.")
    parser.add_argument("--answer-tokens", type=int, default=96, help="Longest answer.")
    parser.add_argument("--system-words", type=int, default=400, help="Of a system prompt.")
    parser.add_argument("--document-words", type=int, default=4_000, help="Of a long document.")


def options(environment: Environment) -> Namespace:
    """What was told."""
    assert environment.parsed_options is not None
    return cast(Namespace, environment.parsed_options)


def sizes(told: Namespace) -> Sizes:
    """How long things are."""
    return Sizes(
        system=told.system_words,
        document=told.document_words,
        answer_tokens=told.answer_tokens,
    )
