"""Chat templates: what transformers renders, and nothing that reaches the process."""

import json
from itertools import count

import pytest

from gateway.tokenizing.body import Chat, UntokenizableError, read
from gateway.tokenizing.template import ChatTemplate

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def chat(*contents: object, **body: object) -> Chat:
    messages = [{"role": "user", "content": content} for content in contents]
    made = read(json.dumps({"messages": messages, **body}).encode())
    assert isinstance(made, Chat)
    return made


def rendered(source: str, *contents: object, **body: object) -> str:
    return ChatTemplate(source, TOKENS).render(chat(*(contents or ("hi",)), **body))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>hi</s>"),
        ("{{ unk_token }}{{ tools is none }}{{ documents is none }}", "TrueTrue"),
        ("{% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
        ("{% for i in range(9) %}{% if i > 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% generation %}\n  a{{ messages[0].content }}{% endgeneration %}\nb", "  ahib"),
        ("{% if add_generation_prompt %}yes{% endif %}", "yes"),
        ("{{ strftime_now('%Y') | length }}", "4"),
    ],
)
def test_it_renders_as_transformers_does(source: str, text: str) -> None:
    assert rendered(source) == text


def test_arguments_are_variables_and_come_before_special_tokens() -> None:
    source = "{{ bos_token }}{{ enable_thinking }}{{ add_generation_prompt }}"
    arguments = {"bos_token": "B", "enable_thinking": False}
    assert rendered(source, chat_template_kwargs=arguments) == "BFalseTrue"


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", False),
        (
            "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}",
            True,
        ),
        ("{% for m in messages %}{% for c in m['content'] %}{% endfor %}{% endfor %}", True),
        (
            "{% set rest = messages[1:] %}{% for m in rest %}"
            "{% for c in m.content | list %}{% endfor %}{% endfor %}",
            True,
        ),
        ("{% for m in tools %}{% for c in m.content %}{% endfor %}{% endfor %}", False),
        ("{% for k, v in messages %}{% for c in v.content %}{% endfor %}{% endfor %}", False),
    ],
)
def test_the_form_of_content_follows_from_the_template(source: str, parts: bool) -> None:
    assert ChatTemplate(source, TOKENS).parts is parts


CONTINUED = {"continue_final_message": True, "add_generation_prompt": False}


def test_a_continued_message_stays_open() -> None:
    source = "{% for m in messages %}[{{ m.content }}]{% endfor %}"
    assert rendered(source, "a", "b ", **CONTINUED) == "[a][b "
    trimming = "{% for m in messages %}[{{ m.content | trim }}]{% endfor %}"
    assert rendered(trimming, "a", "b ", **CONTINUED) == "[a][b"
    parts = "{% for m in messages %}{% for c in m.content %}<{{ c.text }}>{% endfor %}{% endfor %}"
    assert rendered(parts, "a", ["b", "c"], **CONTINUED) == "<a><b><c"


@pytest.mark.parametrize(
    "source", ["", "{{ messages[0].content }}", "{{ messages[-1].content[:3] }}"]
)
def test_a_message_that_is_not_rendered_cannot_be_continued(source: str) -> None:
    with pytest.raises(UntokenizableError, match="continue"):
        rendered(source, "first", "final", **CONTINUED)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'a': 1}) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__['__builtins__'] }}",
        "{{ ''|attr('__class__')|attr('__mro__') }}",
        "{% set x = namespace() %}{{ x.__init__.__globals__ }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ range(10000000) | list }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_nothing_gets_out_of_the_sandbox(source: str) -> None:
    try:
        text = rendered(source)
    except UntokenizableError as error:
        assert "refuses" in str(error)
    else:
        assert text == ""


@pytest.mark.parametrize(
    "text", ["{{ 7 * 7 }}", "{% for x in range(9) %}", "{{ ''.__class__ }}", "{# x #}"]
)
def test_what_clients_send_is_text_and_no_template(text: str) -> None:
    source = "{{ messages[0].content }}{{ extra }}"
    assert rendered(source, text, chat_template_kwargs={"extra": text}) == text + text


def test_clients_can_break_a_render_but_nothing_else() -> None:
    source = "{{ raise_exception('no') if tools else strftime_now('%Y') }}"
    with pytest.raises(UntokenizableError, match="refuses"):
        rendered(source, chat_template_kwargs={"strftime_now": 1})
    assert len(rendered(source)) == 4


def test_a_render_that_writes_too_much_ends() -> None:
    source = "{% for i in range(99999) %}{{ messages[0].content }}{% endfor %}"
    with pytest.raises(UntokenizableError, match="too much"):
        rendered(source, "x" * 10_000)


def test_a_render_that_takes_too_long_ends() -> None:
    seconds = count()
    slow = ChatTemplate("{% for i in range(9) %}{{ i }}{% endfor %}", {}, lambda: next(seconds))
    with pytest.raises(UntokenizableError, match="too much"):
        slow.render(chat("x"))


@pytest.mark.parametrize("source", ["{% if %}", "{{ ", "{% generation %}", "{% nonsense %}"])
def test_a_wrong_template_is_said(source: str) -> None:
    with pytest.raises(ValueError, match="chat template"):
        ChatTemplate(source, {})
