"""Renders untrusted templates: no way out of the sandbox, and a bound on all that they do.

Every step is paid for: each turn of a loop, each call, and each text by its length before it is
made or looked through. So a template ends in the time and the memory that the size of its input
deserves, or with TemplateError.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from server.templates import sandbox_methods as words
from server.templates.template import TemplateError
from server.templates.work_budget import CHARACTERS_PER_STEP, PURSE, WorkBudget

_LARGEST_BITS = 1_024
#: so many words of a template are done in one step, where it is looped through or called
_WORDS_PER_STEP = 16
_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
_STATEMENTS = (
    nodes.Template,
    nodes.Output,
    nodes.For,
    nodes.If,
    nodes.Macro,
    nodes.CallBlock,
    nodes.With,
    nodes.ExprStmt,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.Break,
    nodes.Continue,
)
#: what the compiler adds to calls, for functions that take the context
_COMPILER_S = ("_loop_vars", "_block_vars")
#: filters of ours, by names that no template can write
_EACH, _SEEN, _JOINED, _SPENT = "each ", "seen ", "joined ", "spent "


class Compiled:
    """A template that can be rendered again and again, in several threads at once."""

    def __init__(self, source: str) -> None:
        """Compile a template. Raises TemplateError."""
        environment = _Sandbox()
        with _told():
            tree = environment.parse(source)
            #: the names that it reads and does not set
            self.names = frozenset(meta.find_undeclared_variables(tree))
            for node in tree.find_all(nodes.Stmt):
                if not isinstance(node, _STATEMENTS):
                    raise TemplateError(f"The template must not use {type(node).__name__}.")
            self._template = environment.from_string(_Priced(environment).visit(tree))

    def render(self, budget: WorkBudget, **values: Any) -> str:
        """Return the text. Raises TemplateError, also where the purse does not pay for it."""
        token = PURSE.set(budget)
        try:
            with _told():
                return "".join(self._template.generate(values))
        finally:
            PURSE.reset(token)


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever a template brings about into one line that can be told."""
    try:
        yield
    except TemplateError:
        raise
    except SecurityError as error:
        raise TemplateError(f"The template is not allowed to do that: {_line(error)}") from None
    except RecursionError:
        raise TemplateError("The template is too deep.") from None
    except _FAILURES as error:
        raise TemplateError(f"The template cannot be rendered: {_line(error)}") from None


def _line(error: BaseException) -> str:
    told = getattr(error, "message", None) or getattr(error, "msg", None) or error
    text = " ".join(str(told).split())[:200] or type(error).__name__
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{text} (line {error.lineno})"
    return text


class _Sandbox(ImmutableSandboxedEnvironment):
    """An environment in which there is nothing that is not paid for.

    Blocks take the line break behind them along and the white space before, as in the templates
    that models are published with.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            optimized=False,  # what is folded at compile time is not paid for
            autoescape=False,
            cache_size=0,
            finalize=_shown,
            extensions=["jinja2.ext.loopcontrols"],
        )
        ours = {
            _EACH: words.each,
            _SEEN: words.seen,
            _JOINED: words.joined,
            _SPENT: lambda steps: PURSE.get().spend(steps),
        }
        self.filters = {**words.KNOWN_FILTERS, **ours}
        self.tests = dict(words.KNOWN_TESTS)
        self.globals = {
            "range": safe_range,
            "namespace": Namespace,
            "raise_exception": words.refuse,
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if callable(obj) and not isinstance(obj, LoopContext):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"{attribute} of a {type(obj).__name__} is out of reach")

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Pay for a subscript: it is hashed, and an attribute's dotted path is one for each dot."""
        return super().getitem(obj, PURSE.get().look(argument))

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what may be called, and pay for what goes in and comes out."""
        budget = PURSE.get()
        for name in _COMPILER_S:
            kwargs.pop(name, None)
        budget.look([args, kwargs])
        own = getattr(obj, "__self__", None)
        if isinstance(own, str | dict | list | tuple):
            return budget.look(words.call_method(own, obj, args, kwargs))
        ours = (safe_range, Namespace, words.refuse)
        known = isinstance(own, LoopContext) or isinstance(obj, Macro | Undefined)
        if not known and not any(obj is one for one in ours):
            raise SecurityError("that cannot be called")
        return budget.look(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse what grows without bounds, and pay for the rest."""
        budget = PURSE.get()
        match operator, left, right:
            case "%", _, _:
                return words.remainder(left, right)
            case "*", int(), int():
                _check_bits(left.bit_length() + right.bit_length())
            case "**", int(), int():
                _check_bits(left.bit_length() * abs(right))
            case "*", str() | list() | tuple(), int():
                budget.spend(len(left) * max(0, right))
            case "*", int(), str() | list() | tuple():
                budget.spend(len(right) * max(0, left))
        budget.look([left, right])
        return super().call_binop(context, operator, left, right)


def _check_bits(bits: int) -> None:
    if bits > _LARGEST_BITS:
        raise SecurityError("that number is too large")


@jinja2.pass_context  # so that nothing is written at compile time
def _shown(_: Any, value: Any) -> str:
    return words.written(value)


class _Priced(NodeTransformer):
    """Puts a price on what the environment does not see: loops, comparisons, keys, `~`, slices."""

    def __init__(self, environment: jinja2.Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2's name
        if node.recursive:
            raise TemplateError("The template must not use a recursive loop.")
        price = self._price(node)
        self.generic_visit(node)
        node.iter = self._filtered(node.iter, _EACH, price)
        return node

    def visit_Macro(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Node:  # noqa: N802
        price = self._price(node)
        self.generic_visit(node)
        paid = nodes.ExprStmt(self._filtered(price, _SPENT), lineno=node.lineno)
        node.body.insert(0, paid)
        return node

    visit_CallBlock = visit_Macro  # noqa: N815

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = self._filtered(node.expr, _SEEN)
        for operand in node.ops:
            operand.expr = self._filtered(operand.expr, _SEEN)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = self._filtered(node.node, _SEEN)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = self._filtered(node.key, _SEEN)  # it is hashed
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._filtered(nodes.List(node.nodes, lineno=node.lineno), _JOINED)

    def _price(self, node: nodes.Node) -> nodes.Const:
        """Return what it costs to go once through a body, by all that stands in it."""
        static = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        words = sum(1 for _ in node.find_all(nodes.Node))
        steps = 1 + static // CHARACTERS_PER_STEP + words // _WORDS_PER_STEP
        return nodes.Const(steps, lineno=node.lineno)

    def _filtered(self, node: nodes.Node, name: str, *arguments: nodes.Expr) -> nodes.Filter:
        filtered = nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
        filtered.set_environment(self._environment)
        return filtered
