"""The functions, classes and methods of a Python file, as R2E-Gym describes edits by them."""

import ast
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entity:
    """One definition, with the lines it covers (first and last, from 1)."""

    file_name: str
    type: str
    name: str
    content: str
    ast_type_str: str
    start_lineno: int
    end_lineno: int
    parent: "Entity | None" = field(default=None, repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the entity across two versions of its file."""
        return (self.type, self.name)

    def touches(self, lines: list[int]) -> bool:
        """Tells whether any of the lines is inside the entity."""
        return any(self.start_lineno <= line <= self.end_lineno for line in lines)

    def to_json(self) -> dict:
        """Returns the form that ParsedCommit stores."""
        return self.summary() | {"content": self.content, "parent": self.parent and self.parent.to_json()}

    def summary(self) -> dict:
        """Returns the form without source text."""
        names = ("file_name", "type", "name", "ast_type_str", "start_lineno", "end_lineno")
        return {name: getattr(self, name) for name in names}


def entities_of(path: str, source: str) -> list[Entity]:
    """Lists a file's definitions; none for files that are not Python or do not parse."""
    if not path.endswith(".py"):
        return []
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    found = []
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.append(_entity(path, source, node, "function", None))
        elif isinstance(node, ast.ClassDef):
            parent = _entity(path, source, node, "class", None)
            methods = [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
            found += [parent] + [_entity(path, source, method, "method", parent) for method in methods]
    return found


def _entity(path: str, source: str, node: ast.stmt, kind: str, parent: Entity | None) -> Entity:
    first = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
    name = f"{parent.name}.{node.name}" if parent else node.name
    content = "\n".join(source.split("\n")[first - 1 : node.end_lineno])
    return Entity(path, kind, name, content, type(node).__name__, first, node.end_lineno, parent)
