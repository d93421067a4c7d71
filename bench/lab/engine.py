"""One real vLLM server: how it is started, and where it then is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct, json

from bench.lab.home import Home

HOST = "127.0.0.1"
MODEL = "smol"
"""The name under which clients ask for the model."""
ADAPTER = "smol-adapter"
"""The name of the LoRA adapter, on servers that have it."""
BLOCK_SIZE = 32
CONTEXT_LENGTH = 4096
PORTS_EACH = 4
"""HTTP, KV-cache events, their replays, and NIXL's side channel."""
_KV_ROLES = {"prefill": "kv_producer", "decode": "kv_consumer"}
_CALM = Path(__file__).with_name("calm")


class Server(Struct, frozen=True):
    """What one server is told. It takes `PORTS_EACH` ports from ``port`` on.

    With a ``role`` it hands KV over by NIXL's connector.
    """

    port: int
    cache_tokens: int
    adapter: bool = False
    role: Literal["prefill", "decode"] | None = None

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"vllm-{self.port}"

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://{HOST}:{self.port}"

    @property
    def topic(self) -> str:
        """The topic of its events."""
        return f"kv@{HOST}:{self.port}@{MODEL}"

    def labels(self) -> dict[str, str]:
        """What the gateway must know to follow its cache, and to split requests."""
        roles = {} if self.role is None else {"role": self.role, "kv-connector": "nixl"}
        return {
            **roles,
            "kv_events": f"tcp://{HOST}:{self.port + 1}",
            "kv_events_replay": f"tcp://{HOST}:{self.port + 2}",
            "kv_events_topic": self.topic,
        }

    def command(self, home: Home) -> list[str]:
        """The command line."""
        events = {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            # Without a star the publisher connects instead of binding.
            "endpoint": f"tcp://*:{self.port + 1}",
            "replay_endpoint": f"tcp://*:{self.port + 2}",
            "topic": self.topic,
        }
        return [
            *(str(home.venv / "bin" / "vllm"), "serve", str(home.model)),
            *("--served-model-name", MODEL, "--host", HOST, "--port", str(self.port)),
            *("--max-model-len", str(CONTEXT_LENGTH), "--dtype", "float32", "--enforce-eager"),
            *("--block-size", str(BLOCK_SIZE), "--max-num-seqs", "16"),
            *("--num-gpu-blocks-override", str(self.cache_tokens // BLOCK_SIZE)),
            "--enable-prompt-tokens-details",
            *("--kv-events-config", json.encode(events).decode()),
            *(self._lora(home) if self.adapter else ()),
            *(() if self.role is None else ("--kv-transfer-config", self._transfer(self.role))),
        ]

    def _transfer(self, role: str) -> str:
        told = {
            "kv_connector": "NixlConnector",
            "kv_role": _KV_ROLES[role],
            "kv_buffer_device": "cpu",
            "engine_id": self.name,
        }
        return json.encode(told).decode()

    def _lora(self, home: Home) -> tuple[str, ...]:
        return (
            *("--enable-lora", "--max-lora-rank", "8", "--max-loras", "1"),
            *("--lora-modules", f"{ADAPTER}={home.adapter}"),
        )


def environment(
    server: Server | None = None, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of a server: one thread of computing, nothing from the network."""
    chosen = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        # For /reset_prefix_cache: tests and benches begin with empty caches.
        "VLLM_SERVER_DEV_MODE": "1",
    }
    # Our own packages must not be found from the engine's interpreter.
    foreign = {"PYTHONPATH", "VIRTUAL_ENV"}
    if server is not None and server.role is not None:
        chosen |= {
            "VLLM_NIXL_SIDE_CHANNEL_HOST": HOST,
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(server.port + 3),
            "UCX_TLS": "tcp,shm,self,cma",
            "PYTHONPATH": str(_CALM),
        }
    kept = {key: value for key, value in inherited.items() if key not in foreign}
    return {**kept, **chosen}
