"""The page on limits says what the code does."""

import ast
import itertools
from dataclasses import fields
from pathlib import Path

from controller.proxy import limits
from controller.proxy.limits import Limits

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"


def test_every_limit_stands_on_the_page_with_its_default_and_its_words() -> None:
    tree = ast.parse(Path(limits.__file__).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    words = {
        place.target.id: " ".join(str(text.value.value).split())
        for place, text in itertools.pairwise(body)
        if isinstance(place, ast.AnnAssign) and isinstance(place.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    page = PAGE.read_text()
    for field in fields(Limits):
        value = field.default
        shown = f"{value:,}" if isinstance(value, int) else f"{value:g}"
        assert f"| `{field.name}` | {shown} | {words[field.name]} |" in page
