"""Users by the time of day: ``-f bench/load/locustfile.py,bench/load/diurnal.py``."""

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser

from bench.load.profiles import day


@events.init_command_line_parser.add_listener
def _add(parser: LocustArgumentParser) -> None:
    parser.add_argument("--night-users", type=int, default=5, help="Fewest users.")
    parser.add_argument("--noon-users", type=int, default=50, help="Most users.")
    parser.add_argument("--day-seconds", type=float, default=600.0, help="How long a day lasts.")
    parser.add_argument("--days", type=float, default=2.0, help="How many.")


class Diurnal(LoadTestShape):
    """Few users at night, many at noon."""

    def tick(self) -> tuple[int, float] | None:
        """Users now, and how many may come in a second."""
        assert self.runner is not None
        told = self.runner.environment.parsed_options
        assert told is not None
        profile = day(told.night_users, told.noon_users, told.day_seconds, told.days)
        users = profile(self.get_run_time())
        return None if users is None else (users, 10.0)
