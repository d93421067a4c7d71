"""Users in spikes, beside a locustfile: ``-f bench/load/locustfile.py,bench/load/spike.py``."""

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser

from bench.load.profiles import spikes


@events.init_command_line_parser.add_listener
def _add(parser: LocustArgumentParser) -> None:
    parser.add_argument("--base-users", type=int, default=10, help="Users between spikes.")
    parser.add_argument("--peak-users", type=int, default=100, help="Users in a spike.")
    parser.add_argument("--spike-every", type=float, default=120.0, help="Seconds.")
    parser.add_argument("--spike-lasts", type=float, default=20.0, help="Seconds.")
    parser.add_argument("--spikes-end", type=float, default=600.0, help="Seconds in all.")


class Spike(LoadTestShape):
    """Many users at once, for a short time, again and again."""

    def tick(self) -> tuple[int, float] | None:
        """Users now, and how many may come in a second."""
        assert self.runner is not None
        told = self.runner.environment.parsed_options
        assert told is not None
        profile = spikes(
            told.base_users, told.peak_users, told.spike_every, told.spike_lasts, told.spikes_end
        )
        users = profile(self.get_run_time())
        return None if users is None else (users, float(told.peak_users))
