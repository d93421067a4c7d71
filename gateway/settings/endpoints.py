"""The endpoints that are named, and how all of them are watched."""

from typing import Literal

from endpoints.discovery.static import endpoint_from_url
from endpoints.events import EventSettings
from gateway.settings.types import Bytes, Count, Seconds, Section, Text
from routing.fleet import Endpoint


class EndpointSettings(Section, frozen=True):
    """One model server; None leaves it to what discovery and probes find out."""

    url: Text
    name: Text | None = None
    engine: Text | None = None
    models: tuple[Text, ...] | None = None
    cache_tokens: Count | None = None
    labels: dict[str, str] = {}

    def endpoint(self) -> Endpoint:
        """The endpoint of these facts; ValueError says which one can't be."""
        return endpoint_from_url(
            self.url,
            name=self.name,
            engine=self.engine,
            models=self.models,
            cache_tokens=self.cache_tokens,
            labels=tuple(self.labels.items()),
        )


class KvEventSettings(Section, frozen=True):
    """Where engines publish what their caches hold; see `endpoints.events.EventSettings`."""

    address: Text = "tcp://{host}:5557"
    replay_address: Text | None = None
    topic: str = ""
    ranks: Count = 1
    after_loss: Literal["keep", "clear"] = "keep"
    silent_after: Seconds = 60.0
    view_bytes: Bytes = 268_435_456

    def events(self) -> EventSettings:
        """The same for whoever follows them; ValueError names an address that is none."""
        return EventSettings(
            address=self.address,
            replay_address=self.replay_address,
            topic=self.topic,
            ranks=self.ranks,
            after_loss=self.after_loss,
            silent_after=self.silent_after,
            view_bytes=self.view_bytes,
        )


class ProbeSettings(Section, frozen=True):
    """How endpoints are watched."""

    interval: Seconds = 0.5
    timeout: Seconds = 2.0
    models_interval: Seconds = 10.0
    unhealthy_after: Count = 2
    healthy_after: Count = 1
