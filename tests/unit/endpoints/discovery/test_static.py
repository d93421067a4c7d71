import pytest

from endpoints.discovery.static import endpoint_from_url
from routing.fleet import Endpoint


@pytest.mark.parametrize(
    ("url", "normal", "name"),
    [
        ("http://gpu1:8000", "http://gpu1:8000", "gpu1:8000"),
        ("HTTP://GPU1.Example.COM:8000/", "http://gpu1.example.com:8000", "gpu1.example.com:8000"),
        ("http://gpu1", "http://gpu1:80", "gpu1:80"),
        ("https://gpu1", "https://gpu1:443", "gpu1:443"),
        ("http://10.0.0.7:1", "http://10.0.0.7:1", "10.0.0.7:1"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
        ("http://[FE80:0:0::1]", "http://[fe80::1]:80", "[fe80::1]:80"),
        ("http://model_server-0:65535//", "http://model_server-0:65535", "model_server-0:65535"),
    ],
)
def test_normal_form(url: str, normal: str, name: str) -> None:
    assert endpoint_from_url(url) == Endpoint(name, normal)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "visible ASCII"),
        ("gpu1:8000", "write http://gpu1:8000"),
        ("ftp://gpu1", "use http or https"),
        ("http://", "names no host"),
        ("http://:8000", "names no host"),
        ("http://gpu1:8000/v1", "leave off the path '/v1'"),
        ("http://gpu1:8000?x=1", "leave off the query"),
        ("http://gpu1:8000/#", "leave off the query"),
        ("http://gpu1:0", "port 0"),
        ("http://gpu1:70000", "(?i)port"),
        ("http://gpu1:80a", "(?i)port"),
        ("http://1.2.3", "no IPv4 address"),
        ("http://1.2.3.400", "no IPv4 address"),
        ("http://::1", "(?i)port|brackets"),
        ("http://fe80::a:b:8000", "(?i)port|brackets"),
        ("http://[::1", "(?i)ipv6"),
        ("http://[::g]", "(?i)ipv6|address"),
        ("http://[fe80::1%eth0]:80", "zone"),
        ("http://-gpu:80", "no host name"),
        ("http://gpu 1:80", "visible ASCII"),
        ("http://gpu1\n:80", "visible ASCII"),
        ("http://gpü:80", "visible ASCII"),
        ("http://a..b:80", "no host name"),
        ("http://gpu1\\x:80", "no host name"),
    ],
)
def test_wrong_urls_say_what_to_mend(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        endpoint_from_url(url)


@pytest.mark.parametrize("url", ["http://me:secret@gpu1", "me:secret@gpu1", "http://:secret@:80a"])
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="password") as caught:
        endpoint_from_url(url)
    assert "secret" not in str(caught.value)


def test_given_facts() -> None:
    endpoint = endpoint_from_url(
        "http://gpu1:8000",
        name="a",
        engine="vllm",
        models=["m", "n"],
        cache_tokens=5,
        labels=[("zone", "z1")],
    )
    assert endpoint == Endpoint("a", "http://gpu1:8000", "vllm", ("m", "n"), 5, (("zone", "z1"),))


def test_wrong_facts() -> None:
    url = "http://gpu1:8000"
    with pytest.raises(ValueError, match="did you mean 'vllm'"):
        endpoint_from_url(url, engine="vlm")
    with pytest.raises(ValueError, match="name 'a b'"):
        endpoint_from_url(url, name="a b")
    with pytest.raises(ValueError, match="name ''"):
        endpoint_from_url(url, name="")
    with pytest.raises(ValueError, match="cache_tokens is 0"):
        endpoint_from_url(url, cache_tokens=0)
    with pytest.raises(ValueError, match="holds no name"):
        endpoint_from_url(url, models=[])
    with pytest.raises(ValueError, match="list of names"):
        endpoint_from_url(url, models="m")
    with pytest.raises(ValueError, match="twice"):
        endpoint_from_url(url, models=["m", "m"])
