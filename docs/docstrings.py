"""Docstrings for Sphinx: plain prose with code in backticks becomes reStructuredText, and the comments beside the
fields of a dataclass or a NamedTuple, which say what each of them is, become a part of its documentation."""

import ast
import inspect
import re
import textwrap
import tokenize
from io import StringIO
from itertools import zip_longest
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(`[^`]*`)")
NAME = re.compile(r"`[A-Za-z][\w.]*(\(\))?`")
SPECIAL = re.compile(r"([*|\\]|_(?!\w))")  # what would be emphasis, a substitution or a reference
SECTIONS = ("Args:", "Returns:", "Raises:")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon reads its sections
    app.connect("autodoc-process-signature", as_written)
    app.connect("autodoc-skip-member", is_left_out)
    return {"parallel_read_safe": True}


def process(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Rewrite the lines of a docstring in place."""
    lines[:] = as_code(lines)
    if what in ("property", "attribute") and lines:
        lines[0] = lines[0].replace(":", r"\:")  # before which napoleon takes all for a type
    if what == "class":
        lines += fields(item)


def as_code(lines: list[str]) -> list[str]:
    """Return lines in which prose is escaped, and what is indented after a blank line is a block of code."""
    made: list[str] = []
    block = False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        begins = indented and i > 0 and not lines[i - 1].strip() and not in_section(lines[:i])
        if begins and not block:
            made += [".. code-block:: python", ""]
        block = begins or (block and (indented or not line.strip()))
        made.append(line if block else escaped(line))
    return made


def in_section(before: list[str]) -> bool:
    """Say whether the last line that is not indented begins a section, such as "Args:"."""
    flush = [line for line in before if line.strip() and not line.startswith(" ")]
    return bool(flush) and flush[-1] in SECTIONS


def escaped(text: str) -> str:
    """Return prose without anything that reStructuredText would take for markup, but for code in backticks: names,
    which become links, stay as they are, and all else becomes a literal."""
    parts = CODE.split(text)
    prose = [SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
    code = [part if NAME.fullmatch(part) else f"`{part}`" for part in parts[1::2]]
    return "".join(part for pair in zip_longest(prose, code, fillvalue="") for part in pair)


def fields(cls: Any) -> list[str]:
    """Return a list of the fields of a class that have comments beside them, or none."""
    try:
        source = textwrap.dedent(inspect.getsource(cls))
    except (OSError, TypeError):
        return []
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found = [(node, comment(source, node)) for node in body.body if isinstance(node, ast.AnnAssign)]
    if not any(words for _, words in found):
        return []
    made = ["", "Fields:", ""]
    for node, words in found:
        default = f" = {ast.unparse(node.value)}" if node.value else ""
        name = f"``{ast.unparse(node.target)}: {ast.unparse(node.annotation)}{default}``"
        made.append(f"- {name}: {escaped(words)}" if words else f"- {name}")
    return made


def comment(source: str, node: ast.AnnAssign) -> str:
    """Return the comment that stands beside a field and in the lines below, in one line."""
    words, line = [], node.end_lineno or node.lineno
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.start[0] in (line, line + 1):
            if token.start[0] > line and not token.line.lstrip().startswith("#"):  # beside the next field
                break
            words.append(token.string.removeprefix("#").strip())
            line = token.start[0]
    return " ".join(words)


def as_written(app: Sphinx, what: str, name: str, item: Any, options: Any, signature: str, returns: str) -> Any:
    """Return the signature of a function as its source has it, where types have names: ArrayLike is a long union."""
    if not inspect.isroutine(item):
        return None
    node = ast.parse(textwrap.dedent(inspect.getsource(item))).body[0]
    assert isinstance(node, ast.FunctionDef)
    own = node.args.posonlyargs or node.args.args
    if own and own[0].arg in ("self", "cls"):
        del own[0]
    return f"({ast.unparse(node.args)})", node.returns and ast.unparse(node.returns)


def is_left_out(app: Sphinx, what: str, name: str, item: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of a NamedTuple one by one, since its class lists them."""
    return True if type(item).__name__ == "_tuplegetter" else None
