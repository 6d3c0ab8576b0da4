"""The fields of a model, mostly `RunConfig`, as flags of a command, and as the commented file that `vidmill init` writes.

    source.uri  ->  --source.uri TEXT  ->  {"source.uri": "/videos"}      only what was given
                ->  "  uri: /videos" under "source:"

Knows click and the model's fields; judges no value: `config_file.load` does, so that all errors read alike.
"""

import json
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import update_wrapper
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_origin

import click
from click.core import ParameterSource
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config_file import fields, flag, sections
from infra.problem import Problem
from infra.settings import RunConfig

GIVEN: Final = "vidmill.given"  # where in click's context the flags that were given are collected
PLAIN_YAML: Final = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
NOT_TEXT: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})  # to some YAML reader
COMMENT_COLUMNS: Final = 96
SHORT: Final = "short"  # a list of sections, each of which may be given as the text of its most telling field


class AnyChoice(click.Choice[str]):
    """Shows and completes its choices, and lets every value pass: the configuration's own error says more."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value


class ConfigOption(click.Option):
    """A flag that stands for one field of the configuration."""

    def __init__(self, *args: Any, dotted: str, info: FieldInfo, heading: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dotted = dotted
        self.info = info
        self.heading = heading  # in the command's help


class ConfigCommand(click.Command):
    """A command whose help shows the configuration's flags by section, in the model's order, after its own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                heading = param.heading if isinstance(param, ConfigOption) else "Options"
                groups.setdefault(heading, []).append(record)
        for heading in sorted(groups, key=["Options", *groups].index):
            with formatter.section(heading):
                formatter.write_dl(groups[heading])


def config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one flag per field, and call it with `overrides`: the dotted fields that were given.

    Use with `@group.command(cls=ConfigCommand)`, which groups the help. Lists of text take commas and repetition, an empty value
    empties a list and unsets an optional field, lists of sections take JSON, some of them text too.
    """

    return options_of(RunConfig, "run")(command)


def options_of(model: type[BaseModel], title: str, *, without: Sequence[str] = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """As `config_options`, of another model; its own fields are listed under `title`. Fields in `without` get no flag."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def with_overrides(*args: Any, **kwargs: Any) -> Any:
            return command(*args, overrides=dict(click.get_current_context().meta.get(GIVEN, {})), **kwargs)

        update_wrapper(with_overrides, command)
        decorated: Callable[..., Any] = with_overrides
        for dotted, info in reversed([(dotted, info) for dotted, info in fields(model) if dotted not in without]):
            decorated = _option(dotted, info, _heading(model, dotted, title))(decorated)
        return decorated

    return decorate


def command_of(command: str, config: BaseModel, **more: Any) -> str:
    """The command line that gives the same configuration, without its sections; `more` are fields that were chosen for it."""
    given = {
        name: getattr(config, name) for name in type(config).model_fields if name in config.model_fields_set and name not in sections(type(config))
    }
    words = [word for name, value in (given | more).items() for word in _words(name, value)]
    return f"{command} {shlex.join(words)}".rstrip()


def _words(name: str, value: Any) -> list[str]:
    match value:
        case None:
            return []
        case bool():
            return [flag(name if value else f"no_{name}")]
        case list():
            return [word for entry in value for word in (flag(name), str(entry))]
    return [flag(name), str(value)]


def starter_yaml(values: Mapping[str, Any]) -> str:
    """The commented file `vidmill init` writes: `values` (dotted field -> value) as they are, the rest as commented-out defaults.

    A required field without a value is written empty; `config_file.load` then points at it.
    """
    opening = "vidmill configuration; run it with: vidmill run FILE\nA line like #key: value shows a default: remove the # to change it."
    return "\n".join([*(f"# {line}" for line in opening.splitlines()), *_section_lines(RunConfig, "", values), ""])


def _option(dotted: str, info: FieldInfo, heading: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    kind = _kind(info)
    extra: dict[str, Any] = {"type": str, "metavar": {int: "INTEGER", float: "NUMBER", str: "TEXT"}.get(kind, "JSON")}
    name = flag(dotted)
    if kind is bool:
        section, _, last = dotted.rpartition(".")
        name, extra = f"{name}/{flag(f'{section}.no_{last}' if section else f'no_{last}')}", {"default": None}
    elif kind in (list, SHORT):
        extra = {"type": str, "multiple": True, "metavar": "NAME,..." if kind is list else "NAME,...|JSON"}
    elif isinstance(kind, type) and issubclass(kind, Enum):
        extra = {"type": AnyChoice([str(member.value) for member in kind])}
    declarations = (name, dotted.replace(".", "__"))
    text = f"{info.description} [{_default_shown(info)}]".removesuffix(" []")
    extra |= {"dotted": dotted, "info": info, "heading": heading}
    return click.option(*declarations, cls=ConfigOption, expose_value=False, callback=_collect, help=text, **extra)


def _collect(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if isinstance(param, ConfigOption) and param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        ctx.meta.setdefault(GIVEN, {})[param.dotted] = _value(param, value)


def _value(option: ConfigOption, given: Any) -> Any:
    kind = _kind(option.info)
    if kind is list:
        return [name for text in given for name in _names(text)]
    if kind is object:
        return _from_json(option.dotted, given)
    if kind is SHORT:
        return [entry for text in given for entry in _entries(option.dotted, text)]
    return None if given == "" and NoneType in get_args(option.info.annotation) else given


def _entries(dotted: str, text: str) -> list[Any]:
    if not text.lstrip().startswith(("[", "{")):
        return [*_names(text)]
    found = _from_json(dotted, text)
    return found if isinstance(found, list) else [found]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _from_json(dotted: str, text: str) -> Any:
    try:
        return json.loads(text or "[]")
    except ValueError as error:
        raise Problem(f"{flag(dotted)}: is not JSON ({error}); give a list such as '[{{\"name\": ...}}]', or write it in the YAML file") from None


def _kind(info: FieldInfo) -> Any:
    """What a field holds: str, int, float, bool, an enum, list for a list of text, SHORT for text or JSON, object for what only JSON can say."""
    annotation = info.annotation
    if NoneType in get_args(annotation):
        annotation = next(kind for kind in get_args(annotation) if kind is not NoneType)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation == list[str]:
        return list
    if any(hasattr(item, "short") for item in get_args(annotation)):
        return SHORT
    return annotation if isinstance(annotation, type) and issubclass(annotation, (str, int, float, Enum)) else object


def _default_shown(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True, validated_data={})
    if info.is_required():
        return "required"
    match default:
        case None:
            return ""
        case bool():
            return f"default: {'yes' if default else 'no'}"
        case list():
            return f"default: {','.join(map(str, default)) or 'none'}"
    return f"default: {str(default).removesuffix('.0')}"


def _heading(model: type[BaseModel], dotted: str, title: str) -> str:
    """Of a field's section; fields of the model itself stand under `title`."""
    section = dotted.rpartition(".")[0]
    return f"{section.capitalize()} - {_purpose(sections(model)[section]).split(',')[0]}" if section else title.capitalize()


def _purpose(model: type[BaseModel]) -> str:
    first = (model.__doc__ or "").strip().splitlines()[0].removesuffix(".")
    return first[:1].lower() + first[1:]


def _section_lines(model: type[BaseModel], prefix: str, values: Mapping[str, Any]) -> Iterator[str]:
    indent, nested = "  " * prefix.count("."), sections(model)
    for name, info in model.model_fields.items():
        if not prefix:
            yield ""
        if name in nested:
            yield f"{indent}# {_purpose(nested[name])}"
            yield f"{indent}{name}:"
            yield from _section_lines(nested[name], f"{prefix}{name}.", values)
        else:
            yield from textwrap.wrap(str(info.description), COMMENT_COLUMNS, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
            yield indent + _setting_line(name, info, prefix + name, values)


def _setting_line(name: str, info: FieldInfo, dotted: str, values: Mapping[str, Any]) -> str:
    if dotted in values:
        return f"{name}: {_yaml(values[dotted])}"
    if info.is_required():
        return f"{name}:"
    return f"#{name}: {_yaml(info.get_default(call_default_factory=True, validated_data={}))}".removesuffix(" null")


def _yaml(value: Any) -> str:
    match value:
        case Enum():
            return _yaml(value.value)
        case str():
            return value if PLAIN_YAML.fullmatch(value) and value.lower() not in NOT_TEXT else _quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(_yaml, value))}]"
        case dict():
            return "{" + ", ".join(f"{_yaml(key)}: {_yaml(inner)}" for key, inner in value.items()) + "}"
        case BaseModel():
            return _yaml(value.model_dump(mode="json", exclude_unset=True))
    return json.dumps(value)


def _quoted(text: str) -> str:
    escaped = (f"\\{char}" if char in '"\\' else char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    return f'"{"".join(escaped)}"'
