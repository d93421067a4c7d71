"""Users in steps, beside a locustfile: ``-f bench/load/locustfile.py,bench/load/step.py``."""

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser

from bench.load.profiles import steps


@events.init_command_line_parser.add_listener
def _add(parser: LocustArgumentParser) -> None:
    parser.add_argument("--step-users", type=int, default=10, help="Users more in each step.")
    parser.add_argument("--step-seconds", type=float, default=60.0, help="How long one lasts.")
    parser.add_argument("--step-count", type=int, default=5, help="How many steps.")


class Step(LoadTestShape):
    """More users, step by step."""

    def tick(self) -> tuple[int, float] | None:
        """Users now, and how many may come in a second."""
        assert self.runner is not None
        told = self.runner.environment.parsed_options
        assert told is not None
        users = steps(told.step_users, told.step_seconds, told.step_count)(self.get_run_time())
        return None if users is None else (users, float(told.step_users))
