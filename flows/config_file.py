"""A configuration file and the flags beside it become one `RunConfig` (or another model), or one `Problem` that lists every error.

    k400.yaml ------> mapping with positions --+
    --source.uri … -> {"source.uri": …} -------+--> one mapping --> one validation

Knows YAML and the words people need; knows nothing of click, of Ray, or of what a setting does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from rich.cells import cell_len
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from infra.problem import Problem
from infra.settings import RunConfig

FieldPath: TypeAlias = tuple[int | str, ...]  # ("models", 0, "sha256")
Mark: TypeAlias = tuple[int, int]  # line and column, from 0
Model = TypeVar("Model", bound=BaseModel)

MAX_FILE_BYTES: Final = 1 << 20  # a person's file has a few kB; more is a video passed by mistake
SNIPPET_COLUMNS: Final = 70  # with the line number it fits 80

# What ruamel says -> what to say, and whether to point at the opening instead of the place where the parser gave up.
SYNTAX: Final[Mapping[str, tuple[str, bool]]] = {
    "undefined alias": ("a value that begins with * must be in quotes", False),
    "character '\\t'": ("a tab stands here; indent with spaces", False),
    "cannot start any token": ("a value that begins with this character must be in quotes", False),
    "mapping values are not allowed": ("this ':' does not fit here; put the value in quotes, or correct the indentation", False),
    "could not find expected ':'": ("a ':' is missing here; write `key: value`", True),
    "expected ',' or ']'": ("this [ is not closed; add the ]", True),
    "expected ',' or '}'": ("this { is not closed; add the }", True),
    "end of stream": ("this quote is not closed; add the closing one", True),
    "expected <block end>": ("the indentation fits no line above; begin the fields of one section in the same column", False),
    "another document": ("a second document begins here; keep one and remove the ---", False),
    "unknown escape": ("a backslash in double quotes begins an escape; use single quotes", False),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as read; `tree` remembers the position of each key and value."""

    name: str = ""
    lines: tuple[str, ...] = ()
    tree: CommentedMap = field(default_factory=CommentedMap)

    def mark(self, path: FieldPath, *, of_key: bool = False) -> Mark | None:
        """Position of the value (or key) at `path`, or of the nearest thing around it that the file holds."""
        node: Any = self.tree
        found: Mark | None = None
        for depth, step in enumerate(path, 1):
            key = _key(node, step)
            if key is None:
                break
            marks = node.lc.data or {}
            if key in marks:  # keys merged in by << have none
                at_key = depth == len(path) and (of_key or node[key] is None)  # an absent value is nowhere
                found = tuple(marks[key][:2] if at_key else marks[key][-2:])
            node = node[key]
        return found

    def line(self, mark: Mark, text: str) -> str:
        """`FILE:LINE:COLUMN: text`, the line itself, and a caret under the place."""
        number, column = mark
        source = _masked(self.lines[number]) if number < len(self.lines) else ""
        start = max(0, column - SNIPPET_COLUMNS // 2) if len(source) > SNIPPET_COLUMNS else 0
        shown = "".join(char if char.isprintable() else " " for char in source[start : start + SNIPPET_COLUMNS])
        gutter = f"{number + 1:>4}"
        caret = " " * cell_len(shown[: column - start]) + "^"
        return f"{self.name}:{number + 1}:{column + 1}: {text}\n{gutter} | {shown}\n{' ' * len(gutter)} | {caret}"


def load(path: Path | None, overrides: Mapping[str, Any]) -> RunConfig:
    """The configuration of one run.

    Args:
        path: a YAML file, or None where the flags say everything.
        overrides: dotted field -> value, {"source.uri": "/videos"}; they win over the file.

    Raises:
        Problem: listing every error, each with its position and the fix.
    """
    return load_as(RunConfig, path, overrides)


def load_as(model: type[Model], path: Path | None, overrides: Mapping[str, Any]) -> Model:
    """The configuration of something else than a run; as `load`."""
    document = Document() if path is None else read(path)
    return _validated(model, _plain(document.tree), document, overrides)


def amended(recorded: Mapping[str, Any], overrides: Mapping[str, Any], *, name: str) -> RunConfig:
    """The configuration of an earlier run, but for `overrides`; raises as `load`, and calls the record `name`."""
    return _validated(RunConfig, recorded, Document(name), overrides)


def _validated(model: type[Model], values: Any, document: Document, overrides: Mapping[str, Any]) -> Model:
    tree = _with_sections(model, values)
    for dotted, value in overrides.items():
        tree = _put(tree, dotted.split("."), value)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise Problem(_explain(error, model, document, overrides)) from None


def read(path: Path) -> Document:
    """The YAML file at `path`; a Problem if it is not there, not YAML, empty or not a mapping."""
    text = _text(path)
    document = Document(str(path), tuple(re.split(r"\r\n|\r|\n", text)))
    try:
        tree = YAML(typ="rt").load(text)
    except ReaderError as error:
        raise Problem(document.line(_mark_of_offset(text, error.position), "a control character stands here; remove it")) from None
    except MarkedYAMLError as error:
        raise Problem(_syntax(document, error)) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise Problem(f"{path}: is not YAML that can be read ({type(error).__name__}); `vidmill init` writes one that can") from None
    if tree is None:
        raise Problem(f"{path}: is empty; `vidmill init` writes a file to start from")
    if not isinstance(tree, CommentedMap):
        raise Problem(document.line((0, 0), f"must be fields such as `output: FOLDER`; got {_told(tree)}"))
    return Document(document.name, document.lines, tree)


def _masked(text: str) -> str:
    """The text with what may be a password in an address blotted out, as long as before."""
    return re.sub(r"(?<=://)\S+(?=@)", lambda found: "*" * len(found[0]), text)


def flag(dotted: str) -> str:
    """The command line's spelling of a field: `limits.max_pixels` -> `--limits.max-pixels`."""
    return "--" + dotted.replace("_", "-")


def sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a model that are sections of their own."""
    annotations = {name: info.annotation for name, info in model.model_fields.items()}
    return {name: kind for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def fields(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field that takes a value, dotted, in the order of the model."""
    nested = sections(model)
    for name, info in model.model_fields.items():
        if name in nested:
            yield from fields(nested[name], f"{prefix}{name}.")
        else:
            yield prefix + name, info


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise Problem(f"{path}: {size:,} bytes are too many for a configuration; give the YAML file")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        near = get_close_matches(path.name, [other.name for other in path.parent.glob("*.y*ml")], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "`vidmill init` writes a file to start from"
        raise Problem(f"{path}: no such file; {hint}") from None
    except UnicodeDecodeError as error:
        raise Problem(f"{path}: is not text in UTF-8 (byte {error.start}); give the YAML file, saved as UTF-8") from None
    except OSError as error:
        raise Problem(f"{path}: cannot be read ({error.strerror}); give a YAML file you may read") from None


def _mark_of_offset(text: str, offset: int) -> Mark:
    before = re.split(r"\r\n|\r|\n", text[:offset])
    return len(before) - 1, len(before[-1])


def _syntax(document: Document, error: MarkedYAMLError) -> str:
    said = str(error.problem)
    here, opening = error.problem_mark, error.context_mark or error.problem_mark
    if twice := re.search(r'duplicate key "(.*?)" with', said, re.DOTALL):
        return document.line((here.line, here.column), f"{twice[1]!r} is written twice in this section; keep one")
    for fragment, (words, at_opening) in SYNTAX.items():
        if fragment in said:
            mark = opening if at_opening else here
            return document.line((mark.line, mark.column), words)
    return document.line((here.line, here.column), f"this is not YAML: {said}; correct it, or put the value in quotes")


def _key(node: Any, step: int | str) -> Any:
    if isinstance(node, CommentedMap):
        return next((key for key in node if str(key) == step), None)
    return step if isinstance(node, CommentedSeq) and isinstance(step, int) and step < len(node) else None


def _plain(node: Any) -> Any:
    match node:
        case dict():
            return {str(key): _plain(value) for key, value in node.items()}
        case list():
            return [_plain(value) for value in node]
        case bool():
            return node
        case int() | float() | str():
            return next(kind for kind in (int, float, str) if isinstance(node, kind))(node)
    return node


def _with_sections(model: type[BaseModel], tree: Any) -> Any:
    """Sections absent or left empty become {}, so that validation names the fields that are missing in them."""
    if not isinstance(tree, dict):
        return tree
    return tree | {name: _with_sections(inner, {} if tree.get(name) is None else tree[name]) for name, inner in sections(model).items()}


def _put(tree: Any, steps: Sequence[str], value: Any) -> Any:
    if not isinstance(tree, dict):
        return tree  # not a section: validation says so
    first, *rest = steps
    return tree | {first: _put(tree.get(first, {}), rest, value) if rest else value}


def _explain(error: ValidationError, root: type[BaseModel], document: Document, overrides: Mapping[str, Any]) -> str:
    told = dict.fromkeys(_explain_one(details, root, document, overrides) for details in error.errors(include_url=False))
    return "\n".join(text for _, text in sorted(told, key=lambda entry: entry[0] or (len(document.lines), 0)))


def _explain_one(details: ErrorDetails, root: type[BaseModel], document: Document, overrides: Mapping[str, Any]) -> tuple[Mark | None, str]:
    """One error in words, and where in the file it is; None for what came from a flag or is not there."""
    path, kind = details["loc"], details["type"]
    if kind == "missing" and path and isinstance(path[-1], int):  # a tuple that is too short
        path, kind = path[:-1], "too_short"
    if given := _flag_that_gave(path, overrides):
        rest = _dotted(path[given.count(".") + 1 :])
        return None, f"{flag(given)}{' ' if rest else ''}{rest}: {_cause(kind, root, path, details)}"
    mark = document.mark(path, of_key=kind == "extra_forbidden")
    if kind == "missing" and not any(isinstance(step, int) for step in path):
        dotted = _dotted(path)
        return None, f"{document.name}: {dotted} is missing; add it or pass {flag(dotted)}".removeprefix(": ")
    text = f"{_dotted(path)}: {_cause(kind, root, path, details)}".removeprefix(": ")
    return (mark, document.line(mark, text)) if mark else (None, f"{document.name}: {text}".removeprefix(": "))


def _flag_that_gave(path: FieldPath, overrides: Mapping[str, Any]) -> str | None:
    prefixes = (".".join(map(str, path[:length])) for length in range(1, len(path) + 1))
    return next((prefix for prefix in prefixes if prefix in overrides), None)


def _dotted(path: FieldPath) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _cause(kind: str, root: type[BaseModel], path: FieldPath, details: ErrorDetails) -> str:
    """What is wrong and what is right, in plain words; kinds as in pydantic's "Validation Errors"."""
    value, context = details["input"], details.get("ctx", {})
    if value is None and kind != "missing":
        return "has no value; write one, or remove the line for the default"
    match kind:
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            return _unknown(root, path)
        case "enum" | "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            return f"{_told(value)} is not allowed; one of {', '.join(choices)}{_nearest(str(value), choices)}"
        case "value_error":
            return str(context["error"])
        case "too_short" | "too_long":
            return f"must have {len(get_args(_info(root, path).annotation))} values; got {_told(value)}"
        case "string_pattern_mismatch":
            return f"{_told(value)} does not fit; give {_info(root, path).description}"
        case "string_type":
            return f"must be text; got {_told(value)}" + ("" if isinstance(value, (dict, list)) else "; put it in quotes")
        case "list_type" | "tuple_type":
            return f"must be a list; got {_told(value)}" + (f"; write [{value}]" if isinstance(value, str) else "")
        case "model_type" | "dict_type":
            return f"must be a section with {', '.join(_model(root, path).model_fields)}; got {_told(value)}"
    return f"must be {_wanted(kind, context) or _info(root, path).description}; got {_told(value)}"


def _wanted(kind: str, context: Mapping[str, Any]) -> str | None:
    if kind.startswith("int_"):
        return "a whole number" if kind != "int_parsing_size" else "a smaller number"
    words = {"float_type": "a number", "float_parsing": "a number", "finite_number": "a finite number", "bool_type": "true or false",
             "bool_parsing": "true or false", "string_too_short": f"at least {context.get('min_length')} character long",
             "greater_than": f"above {context.get('gt')}", "greater_than_equal": f"at least {context.get('ge')}",
             "less_than": f"below {context.get('lt')}", "less_than_equal": f"at most {context.get('le')}"}  # fmt: skip
    return words.get(kind)


def _unknown(root: type[BaseModel], path: FieldPath) -> str:
    name, allowed = str(path[-1]), list(_model(root, path[:-1]).model_fields)
    elsewhere = {dotted.rpartition(".")[2]: dotted for dotted, _ in fields(root)}
    near = _nearest(name, allowed)
    if not near and (match := get_close_matches(name, elsewhere, n=1, cutoff=0.8)):
        near = f"; did you mean {elsewhere[match[0]]}?"
    return f"is not a field; one of {', '.join(allowed)}{near}"


def _nearest(name: str, allowed: Sequence[str]) -> str:
    near = get_close_matches(name.lower(), allowed, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _model(root: type[BaseModel], path: FieldPath) -> type[BaseModel]:
    """The model of the section at `path`; list positions do not matter."""
    model = root
    for step in path:
        if isinstance(step, str):
            annotation = model.model_fields[step].annotation
            model = next(kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel))
    return model


def _info(root: type[BaseModel], path: FieldPath) -> FieldInfo:
    last = max(index for index, step in enumerate(path) if isinstance(step, str))
    return _model(root, path[:last]).model_fields[str(path[last])]


def _told(value: Any) -> str:
    """A value as a person wrote it, short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str() | int() | float():
            text = _masked(str(value))
            short = text if len(text) <= 60 else text[:57] + "..."
            return repr(short) if isinstance(value, str) else short
        case dict():
            return "fields"
        case list() | tuple():
            return f"a list of {len(value)}"
    return f"a value tagged {value.tag.value}" if isinstance(value, TaggedScalar) else f"the {type(value).__name__} {value}"
