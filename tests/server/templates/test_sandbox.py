"""Templates of strangers: what models are published with works, and nothing gets out or goes on."""

from __future__ import annotations

import pytest

from server.templates.sandbox import Compiled
from server.templates.template import TemplateError
from server.templates.work_budget import WorkBudget

LONG = "word " * 4_000
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hello "},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": LONG},
]


def rendered(source: str, size: int = 0) -> str:
    return Compiled(source).render(WorkBudget(size), messages=MESSAGES, prompt=LONG)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages[:3] %}<{{ m.role }}>{{ m['content']|trim }}\n{% endfor %}", None),
        ("{% for m in messages %}{{ loop.index0 }}{{ '.' if loop.last }}{% endfor %}", "0123."),
        ("{{ messages[1].content.strip() + '!' ~ 1 }}", "Hello!1"),
        ("{% if messages[0]['role'] == 'system' %}yes{% else %}no{% endif %}", "yes"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
         "{% endfor %}{{ ns.n }}", "4"),
        ("{% macro said(m) %}[{{ m.content }}]{% endmacro %}{{ said(messages[2]) }}", "[Hi]"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|list|length }}", "2"),
        ("{{ messages[:2]|map(attribute='role')|join(', ') }}", "system, user"),
        ("{{ messages[2]|tojson }}", '{"role": "assistant", "content": "Hi"}'),
        ("{% for i in range(9) %}{{ i }}{% if i == 1 %}{% break %}{% endif %}{% endfor %}", "01"),
        ("{% if tools is defined and tools %}no{% endif %}{{ nothing }}.", "."),
        ("{% set x %}a{{ 1 + 1 }}{% endset %}{{ x|upper }}", "A2"),
        ("{{ 'a-b'.split('-')[-1] }}{{ 'x'.replace('x', 'yz') }}{{ [1, 2]|last }}", "byz2"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ ',' .join(['a', 'b']) }}{{ 7 % 4 }}{{ 2 ** 3 }}{{ 'ab' * 2 }}", "a,b38abab"),
        ("{{ 'aaa'.replace('a', 'b', 1) }}{{ 'aaa'|replace('a', 'b', 2) }}", "baabba"),
        ("{{ 15|round(-1) }}{{ 1.26|round(1) }}{{ 2.6|round|int }}", "201.33"),
        ("{{ 4 is even }}{{ 4 is odd }}{{ 9 is divisibleby(3) }}", "TrueFalseTrue"),
        ("{{ {'a': [1]}|tojson(indent=1) }}", '{\n "a": [\n  1\n ]\n}'),
        ("{{ messages|map(attribute='role')|first }}{{ {1: 2}[1] }}", "system2"),
        ("  {% if true %}\nline\n  {% endif %}\nend\n", "line\nend\n"),
    ],
)  # fmt: skip
def test_what_templates_are_made_of_works(source: str, text: str | None) -> None:
    expected = "<system>Be brief.\n<user>Hello\n<assistant>Hi\n" if text is None else text
    assert rendered(source) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ prompt.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__len__() }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{{ messages|selectattr('__class__')|list }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ range.__globals__ }}",
        "{{ prompt.strip.__self__ }}",
        "{{ prompt|attr('__class__') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ prompt.encode() }}",
        "{{ '{0.__class__}'.format(prompt) }}",
        "{{ prompt.format_map({}) }}",
        "{{ prompt.strip }}",
        "{{ [prompt.strip] }}",
        "{{ [namespace(a=prompt)]|string }}",
        "{{ [namespace(a=prompt)]|tojson }}",
        "{{ range }}",
        "{% include 'x' %}",
        "{% import 'x' as x %}",
        "{% extends 'x' %}",
        "{% block a %}{% endblock %}",
        "{% autoescape true %}{% endautoescape %}",
    ],
)
def test_nothing_gets_out(source: str) -> None:
    with pytest.raises(TemplateError) as refused:
        rendered(source + "{{ prompt }}")
    assert "\n" not in str(refused.value)


#: a tuple, and a namespace, in which all stands twice that stands in the one before
DEEP = (
    "{% set ns = namespace(t=1, n=1) %}{% for i in range(60) %}"
    "{% set ns.t = (ns.t, ns.t) %}{% set ns.n = namespace(a=ns.n, b=ns.n) %}{% endfor %}"
)
WORDY = "{% if [" + "1," * 6000 + "] %}{% endif %}"
NESTED = "{% set ns = namespace(s=[1] * 9000) %}{% for i in range(200) %}{% set ns.s = [ns.s] %}"
AGAIN = "{% for i in range(99999) %}"


@pytest.mark.parametrize(
    "source",
    [
        AGAIN + AGAIN + "{% endfor %}{% endfor %}",
        "{% for i in range(999999999) %}{% endfor %}",
        "{{ 'a' * 999999999 }}",
        "{{ 999999999 * 'a' }}",
        "{{ [1] * 999999999 }}",
        "{{ 99 ** 99 ** 99 ** 99 }}",
        "{% set ns = namespace(n=7) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}"
        "{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}",
        "{% set ns = namespace(s=[1]) %}{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}"
        "{% endfor %}{{ ns.s }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ prompt.center(999999999) }}",
        "{{ '%999999999d' is even }}",
        "{{ '%999999999d' is odd }}",
        "{{ '%999999999d' is divisibleby(1) }}",
        "{{ ['%999999999d']|select('even')|list }}",
        "{{ 5|round(-10000000) }}",
        "{{ 5|round(precision=99999999999999999999) }}",
        "{{ [5]|map('round', -10000000)|list }}",
        "{{ prompt|tojson(indent=999999999) }}",
        NESTED + "{% endfor %}{{ ns.s|tojson(indent=8)|length }}",
        DEEP + "{{ [ns.n]|string|length }}",
        DEEP + "{{ {}[ns.t] }}",
        DEEP + "{{ {ns.t: 1}|length }}",
        DEEP + "{{ messages|map(ns.t)|list }}",
        DEEP + "{{ messages|map(attribute=ns.t)|list }}",
        DEEP + "{{ messages|selectattr(ns.t)|list }}",
        DEEP + "{{ messages|join(attribute=ns.t) }}",
        "{{ prompt.replace('', prompt) }}{{ prompt|replace('o', prompt) }}",
        "{{ prompt.join(prompt) }}{{ prompt|join(prompt) }}",
        "{{ ([prompt] * 50000)|string|length }}",
        "{{ ([prompt] * 50000)|tojson|length }}",
        "{{ ([prompt] * 50000)|join|length }}",
        AGAIN + "{{ prompt }}{% endfor %}",
        "{% macro m() %}" + AGAIN + "{{ prompt }}{% endfor %}{% endmacro %}{{ m() }}",
        "{% macro m() %}" + AGAIN + "x" * 9_000 + "{% endfor %}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(30000) %}" + WORDY + "{% endfor %}",
        "{% macro m() %}" + WORDY + "{% endmacro %}{% for i in range(9000) %}{{ m() }}{% endfor %}",
        "{% macro m() %}{{ caller() }}{% endmacro %}"
        "{% for i in range(5000) %}{% call m() %}" + WORDY + "{% endcall %}{% endfor %}",
        AGAIN + "{% if prompt in prompt %}{% endif %}{% endfor %}",
        AGAIN + "{% if prompt == prompt %}{% endif %}{% endfor %}",
        AGAIN + "{% if prompt is eq prompt %}{% endif %}{% endfor %}",
        AGAIN + "{% set x = prompt[1:] %}{% endfor %}",
        AGAIN + "{% set x = prompt|upper %}{% endfor %}",
        AGAIN + "{% set x = prompt.strip(prompt) %}{% endfor %}",
        AGAIN + "{% set x = prompt.rfind(prompt) %}{% endfor %}",
        "{{ ('a' * 20000).rsplit(sep='ab' ~ 'a' * 10000)|length }}",
        AGAIN + "{% set x = messages|map('upper')|list %}{% endfor %}",
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{{ " + "(" * 4_000 + "1" + ")" * 4_000 + " }}",
        "{{ " + "-" * 9_000 + "1 }}",
        "{{ 1" + " + 1" * 3_000 + " }}",
        "{{ prompt" + ".a" * 5_000 + " }}",
        "{% for i in messages %}" * 40 + "{% endfor %}" * 40,
    ],
)
def test_nothing_goes_on_and_on(source: str) -> None:
    with pytest.raises(TemplateError):
        rendered(source)


def test_what_may_be_done_grows_with_what_there_is_to_render() -> None:
    many = [{"role": "user", "content": "Hello"}] * 20_000
    source = "{% for m in messages %}{{ '<' + m.role + '>' + m.content|trim ~ '\n' }}{% endfor %}"
    text = Compiled(source).render(WorkBudget(20_000 * 55), messages=many)
    assert text == "<user>Hello\n" * 20_000
    with pytest.raises(TemplateError, match="does too much"):
        Compiled(source).render(WorkBudget(0), messages=many)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{{ raise_exception('Roles must\n alternate') }}", "Roles must alternate"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ nothing.of.it }}", "'nothing' is undefined"),
        ("one\n{{ two", r"unexpected end of template.*\(line 2\)"),
        ("{{ prompt|shout }}", "No filter named 'shout'"),
        ("{{ 1 + 'a' }}", "unsupported operand"),
        ("{{ {}|upper|nope }}", "No filter named 'nope'"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(source: str, told: str) -> None:
    with pytest.raises(TemplateError, match=told) as refused:
        rendered(source)
    assert "\n" not in str(refused.value)


def test_what_a_template_reads_is_known() -> None:
    assert Compiled("{% set x = 1 %}{{ x }}{{ prompt }}").names == {"prompt"}
    assert "messages" in Compiled("{% for m in messages %}{{ m.content }}{% endfor %}").names
