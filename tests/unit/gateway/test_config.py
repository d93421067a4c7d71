"""Settings from YAML: what is accepted, what every kind of mistake is answered with."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from endpoints.discovery.static import endpoint_from_url
from gateway.config import (
    LIVE_KEYS,
    ConfigError,
    EndpointSettings,
    Section,
    Settings,
    from_options,
    from_text,
    load,
    restart_needed,
    watch,
)
from gateway.settings import TlsSettings

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
TWO = "endpoints: [{url: 'http://a:1'}, {url: 'http://b:2'}]\n"
ONE = "endpoints: [{url: 'http://a:1'}]\n"


def problems(text: str) -> dict[str, str]:
    """The messages about a text, by path."""
    with pytest.raises(ConfigError) as caught:
        from_text(text, "test.yaml")
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


def test_an_empty_mapping_means_all_defaults() -> None:
    settings = from_text("{}", "test.yaml")
    assert settings == Settings()
    assert settings.listen.port == 8080
    assert settings.proxy.max_body_bytes == 64 * 1024 * 1024
    assert settings.routing.max_requests_per_endpoint is None
    assert settings.fleet_endpoints() == ()


def test_every_section_can_be_set() -> None:
    settings = from_text(
        """
        listen: {host: 0.0.0.0, port: 80, tls: {certificate: c.pem, key: k.pem}}
        admin: {port: 0}
        endpoints:
          - url: HTTP://GPU1
          - url: https://gpu2:8443/
            name: two
            engine: sglang
            models: [llama, llama-lora]
            cache_tokens: 1000
            labels: {zone: a}
        routing: {policy: least_request, max_requests_per_endpoint: 4, fallbacks: 0}
        probes: {interval: 1, timeout: 0.25}
        proxy: {idle_timeout: 5, max_idle_upstream: 0}
        cors: {origins: ['https://a', 'app://b:1'], credentials: true}
        log: {format: json, level: debug, access: no}
        """,
        "test.yaml",
    )
    assert settings.listen.host == "0.0.0.0"
    assert settings.listen.tls == TlsSettings(certificate="c.pem", key="k.pem")
    assert settings.cors.origins == ("https://a", "app://b:1")
    assert settings.probes.interval == 1.0
    assert settings.log.access is False
    assert settings.fleet_endpoints() == (
        endpoint_from_url("http://gpu1:80"),
        endpoint_from_url(
            "https://gpu2:8443",
            name="two",
            engine="sglang",
            models=["llama", "llama-lora"],
            cache_tokens=1000,
            labels=[("zone", "a")],
        ),
    )


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().listen.port = 1  # type: ignore[misc]


def test_all_mistakes_are_told_at_once_with_their_paths() -> None:
    text = """
        lisen: {port: 1}
        proxy: {max_body_byte: 5, idle_timeout: -1}
        endpoints: [{url: 'http://a', nam: x}, {name: y}]
        """
    found = problems(text)
    assert found["lisen"] == "unknown key (with {'port': 1}); did you mean listen?"
    assert found["proxy.max_body_byte"].endswith("did you mean max_body_bytes?")
    assert found["proxy.idle_timeout"] == (
        "-1 is not right here; expected seconds, above 0 and at most 86400"
    )
    assert found["endpoints[0].nam"].endswith("did you mean name?")
    assert found["endpoints[1].url"] == "is missing and has no default"
    assert len(found) == 5


def test_an_error_reads_well() -> None:
    with pytest.raises(ConfigError) as caught:
        from_text("listen: {port: 99999, hots: x}", "inferway.yaml")
    assert str(caught.value) == (
        "inferway.yaml can't be used:\n"
        "  listen.port: 99999 is not right here; expected a port, 0 (any free one) to 65535\n"
        "  listen.hots: unknown key (with 'x'); did you mean host?"
    )


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("listen: {port: '8080'}", "listen.port", "'8080' is not right here; expected a port"),
        ("listen: {port: true}", "listen.port", "true is not"),
        ("listen: {host: ''}", "listen.host", "expected non-empty text"),
        ("listen:", "listen", "null is not right here; expected a mapping of settings"),
        ("listen: 8080", "listen", "expected a mapping of settings"),
        ("[1, 2]", "", "expected a mapping of settings"),
        ("8080: {}", "8080", "unknown key"),
        (
            "zzz: 1",
            "zzz",
            "known are listen, extproc, admin, endpoints, kubernetes, gateway_api, routing, "
            "admission, kv_events, tokenizers, tokenizing_deadline, probes, proxy, cors, "
            "scaling, log",
        ),
        ("probes: {interval: 0}", "probes.interval", "above 0"),
        ("probes: {interval: .nan}", "probes.interval", "above 0"),
        ("probes: {timeout: .inf}", "probes.timeout", "at most 86400"),
        ("probes: {healthy_after: 0}", "probes.healthy_after", "at least 1"),
        ("proxy: {max_header_bytes: 1.5}", "proxy.max_header_bytes", "a whole number of bytes"),
        ("log: {format: xml}", "log.format", "expected one of console, json"),
        ("log: {access: 1}", "log.access", "expected true or false"),
        (
            "routing: {max_requests_per_endpoint: 0}",
            "routing.max_requests_per_endpoint",
            "0 is not right here; expected a whole number, at least 1 or null",
        ),
        ("routing: {policy: round-robin}", "routing.policy", "did you mean round_robin"),
        ("endpoints: {a: 1}", "endpoints", "expected a list of a mapping of settings"),
        ("endpoints: [http://a]", "endpoints[0]", "expected a mapping of settings"),
        ("endpoints: [{url: gpu1}]", "endpoints[0].url", "http://gpu1"),
        ("endpoints: [{url: 'http://a', engine: vlm}]", "endpoints[0].engine", "'vllm'"),
        ("endpoints: [{url: 'http://a', name: 'a b'}]", "endpoints[0].name", "'a b'"),
        ("endpoints: [{url: 'http://a', models: []}]", "endpoints[0].models", "leave it out"),
        ("endpoints: [{url: 'http://a', models: m}]", "endpoints[0].models", "expected a list of"),
        ("endpoints: [{url: 'http://a', labels: {a: 1}}]", "endpoints[0].labels", "a mapping of"),
        ("endpoints: [{url: 'http://a', cache_tokens: 0}]", "endpoints[0].cache_tokens", "least 1"),
        ("admin: {port: 8080}", "admin.port", "8080 is listen.port already"),
        ("listen: {tls: {certificate: c}}", "listen.tls.key", "is missing"),
        ("listen: {tls: {certificate: c, key: k, kee: 1}}", "listen.tls.kee", "did you mean key"),
        ("listen: {tls: {certificate: c, key: 1}}", "listen.tls.key", "expected non-empty text"),
        ("listen: {tls: yes}", "listen.tls", "expected a mapping of settings or null"),
        (
            "listen: {tls: {certificate: c, key: k, min_version: 1.2}}",
            "listen.tls.min_version",
            '1.2 is not right here; expected one of "1.2", "1.3"',
        ),
        ("cors: {origins: ['https://a/']}", "cors.origins", "such as https://chat.example.com"),
        ("cors: {origins: ['HTTPS://A']}", "cors.origins", "an origin as browsers send it"),
        ("cors: {headers: ['*']}", "cors.headers", "a list of the name of a header field"),
        ("cors: {methods: [get]}", "cors.methods", "a method in capitals"),
        ("cors: {origins: ['*'], credentials: true}", "cors.credentials", "name the origins"),
        ("proxy: {retry_statuses: [200]}", "proxy.retry_statuses", "400 to 599"),
        ("proxy: {internal_fields: keep}", "proxy.internal_fields", "one of strip, refuse"),
        (
            "proxy: {upstream_ca_file: f, upstream_verify: false}",
            "proxy.upstream_ca_file",
            "never looked at",
        ),
        ("routing: {retry_budget: {fraction: 1.5}}", "routing.retry_budget.fraction", "from 0 to"),
        (
            "routing: {breaker: {open_seconds: 40}}",
            "routing.breaker.max_open_seconds",
            "less than open_seconds, 40.0",
        ),
    ],
)
def test_a_mistake_is_named(text: str, path: str, part: str) -> None:
    found = problems(text)
    assert list(found) == [path]
    assert part in found[path]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "it holds no settings; write {}"),
        ("# nothing but words\n", "it holds no settings"),
        ("a: b: c", "line 1, column 5"),
        ("listen:\n  port: 1\n  port: 2\n", "line 3, column 3: the key 'port' stands here twice"),
        ("listen: {port: 2024-13-45}", "not YAML"),
        ("a: \x00", "not YAML"),
        ("listen: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_what_is_not_good_yaml_is_refused(text: str, part: str) -> None:
    found = problems(text)
    assert part in found[""]


def test_endpoints_with_one_name_are_refused_wherever_it_comes_from() -> None:
    found = problems("endpoints: [{url: 'http://a:1'}, {url: 'http://b', name: 'a:1'}]")
    assert found == {
        "endpoints[1].name": "'a:1' is the name of endpoints[0] already; choose another"
    }


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        from_text("endpoints: [{url: 'http://user:hunter2@a'}]", "test.yaml")
    assert caught.value.problems[0].path == "endpoints[0].url"
    assert "hunter2" not in str(caught.value)


def test_two_free_ports_are_not_the_same_port() -> None:
    assert from_text("{listen: {port: 0}, admin: {port: 0}}", "test.yaml").admin.port == 0


def test_a_file_is_loaded_and_named_in_its_errors(tmp_path: Path) -> None:
    file = tmp_path / "inferway.yaml"
    file.write_text("listen: {port: 1234}")
    assert load(file).listen.port == 1234
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="byte 0 is not UTF-8"):
        load(file)
    with pytest.raises(ConfigError, match=r"gone\.yaml can't be used:\n.*No such file"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="directory"):
        load(tmp_path)


# -- options -------------------------------------------------------------------------------


def test_options_win_and_the_rest_stays() -> None:
    settings = from_text(
        TWO + "routing: {fallbacks: 1}\nlisten: {port: 1, tls: {certificate: c, key: k}}",
        "test.yaml",
    )
    changed = from_options(
        settings, urls=["http://c"], host="::1", port=0, admin_port=7, policy="round_robin"
    )
    assert [endpoint.name for endpoint in changed.fleet_endpoints()] == ["c:80"]
    assert (changed.listen.host, changed.listen.port) == ("::1", 0)
    assert changed.listen.tls == TlsSettings(certificate="c", key="k")
    assert (changed.admin.host, changed.admin.port) == ("::1", 7)
    assert (changed.routing.policy, changed.routing.fallbacks) == ("round_robin", 1)
    assert from_options(settings) == settings


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"port": 70_000}, "listen.port"),
        ({"policy": "best"}, "routing.policy"),
        ({"urls": ["http://a/v1"]}, "endpoints[0].url"),
        ({"urls": ["http://a", "http://a:80"]}, "endpoints[1].name"),
        ({"port": 9090}, "admin.port"),
    ],
)
def test_options_are_checked_like_a_file(options: dict[str, object], path: str) -> None:
    with pytest.raises(ConfigError, match="the command line can't be used") as caught:
        from_options(Settings(), **options)  # type: ignore[arg-type]
    assert [problem.path for problem in caught.value.problems] == [path]


def test_with_endpoints_replaces_all_of_them() -> None:
    settings = from_text(TWO, "test.yaml").with_endpoints(["http://c:3"])
    assert settings.endpoints == (EndpointSettings(url="http://c:3"),)


# -- changes -------------------------------------------------------------------------------


def test_only_what_needs_a_restart_is_named() -> None:
    old = from_text("{}", "test.yaml")
    live = from_text(TWO + "routing: {policy: round_robin}\nlog: {level: debug}", "test.yaml")
    assert restart_needed(old, live) == ()
    new = from_text(
        "listen: {port: 1}\nrouting: {policy: round_robin, fallbacks: 0}\nlog: {format: json}",
        "test.yaml",
    )
    assert restart_needed(old, new) == ("listen.port", "routing.fallbacks", "log.format")
    assert restart_needed(new, new) == ()


def test_what_differs_within_a_section_of_a_section_is_named() -> None:
    text = "listen: {tls: {certificate: c, key: %s}}\nrouting: {breaker: {failures: %d}}"
    old, new = from_text(text % ("a", 1), ""), from_text(text % ("b", 2), "")
    assert restart_needed(old, new) == ("listen.tls.key", "routing.breaker.failures")
    assert restart_needed(Settings(), old) == ("listen.tls", "routing.breaker.failures")


async def test_a_changed_file_is_given_again(tmp_path: Path) -> None:
    file = tmp_path / "inferway.yaml"
    file.write_text(ONE)
    async with asyncio.timeout(10):
        changes = watch(file, interval=0.005)
        assert await anext(changes) == from_text(ONE, "")
        file.write_text(TWO)
        assert await anext(changes) == from_text(TWO, "")


async def test_a_broken_or_vanished_file_is_told_once_until_it_is_right(tmp_path: Path) -> None:
    file = tmp_path / "inferway.yaml"
    file.write_text(ONE)
    async with asyncio.timeout(10):
        changes = watch(file, interval=0.005)
        await anext(changes)
        file.write_text("listen: {prot: 1}")
        broken = await anext(changes)
        assert isinstance(broken, ConfigError)
        assert broken.problems[0].path == "listen.prot"
        file.unlink()
        gone = await anext(changes)
        assert isinstance(gone, ConfigError)
        assert "No such file" in str(gone)
        file.write_text(ONE)
        assert await anext(changes) == from_text(ONE, "")


async def test_a_file_that_is_missing_at_first_is_an_error_then_settings(tmp_path: Path) -> None:
    file = tmp_path / "inferway.yaml"
    async with asyncio.timeout(10):
        changes = watch(file, interval=0.005)
        assert isinstance(await anext(changes), ConfigError)
        file.write_text(ONE)
        assert await anext(changes) == from_text(ONE, "")


async def test_a_config_map_swap_is_seen(tmp_path: Path) -> None:
    """Kubernetes mounts file -> ..data/file, ..data -> a directory, and swaps ..data."""
    for version, text in (("v1", ONE), ("v2", TWO)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "inferway.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "inferway.yaml").symlink_to("..data/inferway.yaml")
    async with asyncio.timeout(10):
        changes = watch(tmp_path / "inferway.yaml", interval=0.005)
        assert await anext(changes) == from_text(ONE, "")
        (tmp_path / "..new").symlink_to("v2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        assert await anext(changes) == from_text(TWO, "")


async def test_a_change_that_means_nothing_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = iter([ONE, ONE, *[ONE + "# a comment"] * 3, TWO, TWO])
    monkeypatch.setattr(Path, "read_bytes", lambda _self: next(reads).encode())
    async with asyncio.timeout(10):
        changes = watch("inferway.yaml", interval=0.001)
        assert await anext(changes) == from_text(ONE, "")
        assert await anext(changes) == from_text(TWO, "")


async def test_a_half_written_file_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = iter([TWO, TWO, TWO, "", ONE[:9], ONE, ONE, ONE])
    monkeypatch.setattr(Path, "read_bytes", lambda _self: next(reads).encode())
    async with asyncio.timeout(10):
        changes = watch("inferway.yaml", interval=0.001)
        assert await anext(changes) == from_text(TWO, "")
        assert await anext(changes) == from_text(ONE, "")


# -- the documentation ---------------------------------------------------------------------


def _keys(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every key of a section with its default."""
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from _keys(field.type, f"{prefix}{field.name}.")
            continue
        default = field.default
        if default is msgspec.NODEFAULT:
            factory = field.default_factory
            default = "required" if factory is msgspec.NODEFAULT else factory()
        yield prefix + field.name, default
        if field.name == "endpoints":
            yield from _keys(EndpointSettings, "endpoints[].")
        if field.name == "tls":
            yield from _keys(TlsSettings, f"{prefix}tls.")


def test_the_documentation_has_every_key_its_default_and_whether_it_is_live() -> None:
    rows = re.findall(r"^\| `([a-z_.\[\]]+)` \| (.+?) \| (yes|no) \|", DOCUMENT.read_text(), re.M)
    documented = {key: (default.strip("`"), live) for key, default, live in rows}
    assert len(documented) == len(rows)
    expected = {}
    for key, default in _keys(Settings):
        live = key in LIVE_KEYS or key.startswith("endpoints")
        text = default if isinstance(default, str) else msgspec.json.encode(default).decode()
        expected[key] = (text, "yes" if live else "no")
    assert documented == expected


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("gateway_api: {}", "gateway_api", "add a `kubernetes` section"),
        ("gateway_api: {addresses: []}\nkubernetes: {}", "gateway_api.addresses", "is empty"),
        ("gateway_api: {addresses: [a.com]}\nkubernetes: {}", "gateway_api.addresses", "a.com"),
        ("gateway_api: {published: [lb]}\nkubernetes: {}", "gateway_api.published", "'lb'"),
        ("gateway_api: {controller: x}\nkubernetes: {}", "gateway_api.controller", "example.com"),
        ("gateway_api: {service: x}\nkubernetes: {}", "gateway_api.service", "namespace/name"),
        ("gateway_api: {pickers: {tls: on}}\nkubernetes: {}", "gateway_api.pickers.tls", "off"),
    ],
)
def test_a_gateway_that_can_not_be_is_named(text: str, path: str, part: str) -> None:
    found = problems(text)
    assert list(found) == [path]
    assert part in found[path]
