"""CEL selectors: Kubernetes' environment, its errors, and what is not decidable here."""

import pytest

from endpoints.allocation.quantity import parse_quantity
from endpoints.allocation.selectors import MATCH, MISS, DeviceView, Selector, compile_selector
from endpoints.allocation.selectors.functions import quantity_value, semver_value
from endpoints.allocation.semver import parse_semver

G = "gpu.nvidia.com"
H100 = DeviceView(
    G,
    {
        G: {
            "type": "gpu",
            "productName": "NVIDIA H100 80GB HBM3",
            "index": 1,
            "healthy": True,
            "cudaComputeCapability": semver_value(parse_semver("9.0.0")),
            "modes": ["a", "b"],
        },
        "resource.kubernetes.io": {"pcieRoot": "pci0000:17"},
    },
    {G: {"memory": quantity_value(parse_quantity("81559Mi"))}},
)
A = f'device.attributes["{G}"]'
C = f'device.capacity["{G}"]'


@pytest.mark.parametrize(
    "expression",
    [
        f'device.driver == "{G}"',
        f"device.attributes['{G}'].type == 'gpu'",
        f'{A}["index"] == 1',
        f'{A}.productName.matches("H100|H200")',
        f'{A}.productName.lowerAscii().contains("h100")',
        f'"index" in {A}',
        f"has({A}.index) && {A}.index < 4",
        f'{C}.memory.compareTo(quantity("70Gi")) >= 0',
        f'{C}.memory.isGreaterThan(quantity("70Gi"))',
        f'{C}.memory == quantity("81559Mi")',
        f'{C}.memory.sub(quantity("59Mi")) == quantity("81500Mi")',
        f'{C}.memory.asInteger() > 80000000000 && quantity("1500m").asApproximateFloat() == 1.5',
        f'{A}.cudaComputeCapability.isGreaterThan(semver("8.9.0"))',
        f'{A}.cudaComputeCapability.compareTo(semver("9.0.0")) == 0',
        f"{A}.cudaComputeCapability.major() == 9 && {A}.cudaComputeCapability.minor() == 0",
        'isSemver("1.2.3") && !isSemver("v1") && semver("v1", true).major() == 1',
        'isQuantity("1Gi") && !isQuantity("1GiB") && quantity("2").isInteger()',
        f"cel.bind(gpu, {A}, gpu.healthy && gpu.index == 1)",
        f'cel.bind(all, device.attributes, all["{G}"].type == "gpu")',
        f"cel.bind(x, 1, cel.bind(y, x + 1, y == {A}.index + 1))",
        f'{A}.?missing.orValue("other") == "other"',
        f'{A}[?"index"].orValue(0) == 1',
        f"!{A}.?missing.hasValue()",
        f'sets.contains({A}.modes, ["a"]) && {A}.modes.includes("b") && {A}.type.includes("gpu")',
        f'{A}.productName.split(" ")[1] == "H100" && {A}.productName.find("H[0-9]+") == "H100"',
        f'{A}.modes.exists(m, m == "b") && {A}.modes.all(m, m != "c")',
        "device.attributes[device.driver].index == 1",
        '"resource.kubernetes.io" in device.attributes',
        "!device.allowMultipleAllocations",
        "true // because",
    ],
)
def test_matches(expression: str) -> None:
    assert compile_selector(expression).outcome(H100) == MATCH


def test_an_unknown_domain_is_an_empty_map() -> None:
    assert compile_selector('has(device.attributes["other.io"].x)').outcome(H100) == MISS
    assert compile_selector('"x" in device.attributes["other.io"]').outcome(H100) == MISS
    assert compile_selector('device.capacity["other.io"].size() == 0').outcome(H100) == MATCH
    assert compile_selector('"other.io" in device.attributes').outcome(H100) == MISS


def test_asking_for_a_domain_does_not_make_it_be_there() -> None:
    both = 'has(device.attributes["other.io"].x) || "other.io" in device.attributes'
    assert compile_selector(both).outcome(H100) == MISS


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        (f'{A}.missing == "x"', "no such key: missing"),
        ('device.attributes["other.io"].x == 1', "no such key: x"),
        (f"{C}.memory > 80", "No such overload"),
        (f'{C}.memory > quantity("1Gi")', "No such overload"),
        (f"{A}.index", "gives no true or false"),
        (f'{A}.index.compareTo(quantity("1"))', "is no Semver"),
        (f'quantity("80GiB") == {C}.memory', "is no quantity"),
        ("1 / 0 == 1", "division by zero"),
    ],
)
def test_errors_abort(expression: str, detail: str) -> None:
    outcome = compile_selector(expression).outcome(H100)
    assert outcome.kind == "error"
    assert detail in outcome.detail


@pytest.mark.parametrize(
    ("expression", "outcome"),
    [
        (f"false && {A}.missing == 1", MISS),
        (f"{A}.missing == 1 && false", MISS),
        (f"true || {A}.missing == 1", MATCH),
        (f"{A}.missing == 1 || true", MATCH),
        (f"cel.bind(x, {A}.missing, false && x == 1)", MISS),
        (f"cel.bind(x, {A}.missing, x == 1 || true)", MATCH),
        (f'{A}.index == 1 ? true : {A}.missing == "x"', MATCH),
    ],
)
def test_errors_are_absorbed(expression: str, outcome: object) -> None:
    assert compile_selector(expression).outcome(H100) == outcome


@pytest.mark.parametrize(
    "expression", [f"{A}.missing == 1 || false", f"true && {A}.missing == 1", f"!({A}.missing)"]
)
def test_errors_that_nothing_absorbs(expression: str) -> None:
    assert compile_selector(expression).outcome(H100).kind == "error"


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ('ip("10.0.0.1").family() == 4', "family, ip is not known here"),
        ("device.attributes.exists(d, d == 'x')", "used as a whole"),
        (f"device.attributes.all(d, d == '{G}')", "used as a whole"),
        ("device == device", "used whole"),
        ("device.serial == 1", "device.serial is unknown"),
        (f"{A}.?a.?b.orValue(1) == 1", "optional"),
        (f"{A}.?index.optMap(x, x) == 1", "orValue or hasValue"),
        ("device.attributes['a' + 'b'].x == 1", "something else than a text"),
        ("has(device.attributes.gpu)", "has() of a domain"),
        ("[1].all(device, device == 1)", "binds the name device"),
        ("cel.bind(x, 1, [1].all(x, x == 1))", "macro with the same name"),
        ("cel.bind(x, 1)", "takes a name, a value and an expression"),
        ('device.driver == "a', "can't be read"),
        ("device.driver == ", "yntax error"),
        ("(true", "brackets do not match"),
        ("size('é') == 1", "not ASCII"),
        ("true &&" + " true &&" * 2_000 + " true", "more than 10240 bytes"),
    ],
)
def test_not_decidable_here(expression: str, reason: str) -> None:
    selector = Selector(expression)
    outcome = selector.outcome(H100)
    assert outcome.kind == "undecidable"
    assert reason in outcome.detail
    assert selector.problem


def test_a_pattern_of_another_engine_is_not_decidable_even_if_absorbed() -> None:
    outcome = compile_selector(f'{A}.productName.matches("(?=H)") || true').outcome(H100)
    assert outcome == MATCH or outcome.kind == "undecidable"
    assert compile_selector(f'{A}.productName.matches("(?=H)")').outcome(H100).kind == "undecidable"
    absorbed = compile_selector(f'{A}.productName.find("(?i)h") == "" || true').outcome(H100)
    assert absorbed.kind == "undecidable"


def test_letters_beyond_ascii_are_not_decidable_where_letters_count() -> None:
    odd = H100._replace(attributes={G: {"name": "Größe"}})
    assert compile_selector(f"{A}.name.size() == 5").outcome(odd).kind == "undecidable"
    assert compile_selector(f'{A}.name == "Größe"').outcome(odd) == MATCH


def test_what_is_looked_at_is_known() -> None:
    selector = compile_selector(f'{A}.index == 1 && has({A}.x) && {C}["memory"] == quantity("1")')
    assert {tuple(one) for one in selector.references} == {
        ("attributes", G, "index"),
        ("attributes", G, "x"),
        ("capacity", G, "memory"),
    }


def test_versions_are_compared_as_versions() -> None:
    newer = H100._replace(attributes={G: {"driverVersion": semver_value(parse_semver("580.65.6"))}})
    expression = f'{A}.driverVersion.isLessThan(semver("1000.0.0"))'
    assert compile_selector(expression).outcome(newer) == MATCH
