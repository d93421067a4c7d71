"""A recorded trace instead of users: ``locust -f bench/load/trace.py --users 1``.

Each request of the trace is sent when it came, whatever became of those before.
"""

from pathlib import Path

import gevent
from gevent.pool import Group
from locust import User, constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.exception import StopUser

from bench.load.options import options
from bench.load.streaming import Talker
from bench.traces.expand import prompt_text
from bench.traces.mooncake import SAMPLE, arrival_seconds, read


@events.init_command_line_parser.add_listener
def _add(parser: LocustArgumentParser) -> None:
    parser.add_argument("--trace", default=str(SAMPLE), help="A file in Mooncake's format.")
    parser.add_argument("--speed", type=float, default=1.0, help="2: twice as fast.")
    parser.add_argument("--requests", type=int, default=1_000_000, help="The first so many.")


class Trace(User):
    """The one user who sends the whole trace."""

    fixed_count = 1
    wait_time = constant(0)

    @task
    def play(self) -> None:
        """All of it, then the end of the test."""
        told = options(self.environment)
        assert self.host is not None, "which API? --host http://127.0.0.1:8080"
        talker = Talker(self.environment, self.host, told.model)
        rows = read(Path(told.trace))[: told.requests]
        under_way = Group()
        begun = gevent.get_hub().loop.now()
        for row, at in zip(rows, arrival_seconds(rows), strict=True):
            gevent.sleep(max(begun + at / told.speed - gevent.get_hub().loop.now(), 0))
            messages = [{"role": "user", "content": prompt_text(row)}]
            under_way.spawn(talker.say, "trace", messages, max(row.output_length, 1))
        under_way.join()
        assert self.environment.runner is not None
        self.environment.runner.quit()
        raise StopUser
