"""Any other server that speaks the OpenAI API: health and models, no metrics we can read."""

from endpoints.engines.engine import Engine

GENERIC = Engine(name="generic", health_paths=("/health",))
