"""Every error of a configuration is told once, with its place and its fix, and never in the words of a library."""

import re
from pathlib import Path
from typing import Any

import pytest

from flows.config_file import amended, fields, flag, load
from infra.problem import Problem
from infra.settings import RunConfig

GOOD = "source: {kind: files, uri: /videos}\noutput: /out\n"


def errors(path: Path, text: str | bytes, **overrides: Any) -> list[str]:
    """The lines of the Problem that loading `text` raises, without the file's folder and without snippets."""
    return [line for line in told(path, text, **overrides).splitlines() if not re.match(r" +\d* \|| *\d+ \|", line)]


def told(path: Path, text: str | bytes, **overrides: Any) -> str:
    file = path / "k400.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Problem) as caught:
        load(file, {name.replace("__", "."): value for name, value in overrides.items()})
    message = str(caught.value)
    assert not re.search(r"pydantic|ruamel|Traceback|https?://|Input should|type=", message)
    return message.replace(f"{path}/", "")


def test_a_file_and_flags_make_one_configuration_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "k400.yaml"
    file.write_text(GOOD + "decode: {fps: 2, clip_s: 5}\nlimits:\n")
    config = load(file, {"decode.fps": "4", "embed": ["mobilenet-v2"]})
    assert (config.decode.fps, config.decode.clip_s) == (4.0, 5.0)
    assert (config.embed, config.source.uri) == (["mobilenet-v2"], "/videos")
    assert config.limits == RunConfig.model_fields["limits"].default  # a section left empty means its defaults


def test_flags_alone_are_enough() -> None:
    config = load(None, {"source.kind": "kinetics", "source.uri": "/k", "output": "/o"})
    assert config.source.kind == "kinetics"


def test_a_recorded_configuration_is_taken_but_for_the_flags() -> None:
    recorded = load(None, {"source.kind": "files", "source.uri": "/v", "output": "out", "limits.max_bytes": 5}).model_dump(mode="json")
    config = amended(recorded, {"limits.max_frames": "7"}, name="out: run r1")
    assert (config.source.uri, config.limits.max_bytes, config.limits.max_frames) == ("/v", 5, 7)
    of_another_release = {**recorded, "source": {**recorded["source"], "speed": 3}, "gone": 1}
    with pytest.raises(Problem) as problem:
        amended(of_another_release, {"limits.max_frames": "x"}, name="out: run r1")
    lines = str(problem.value).splitlines()
    assert sorted(line.partition(": ")[0] for line in lines) == ["--limits.max-frames", "out", "out"]
    assert any(line.startswith("out: run r1: source.speed: is not a field") for line in lines)


def test_all_errors_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "source:\n  kind: kinetic\n  urii: x\noutput: 7\ndecode: {fps: fast, clip_s: -1}\n"
    assert errors(tmp_path, text, limits__max_pixels="many") == [
        "k400.yaml:2:9: source.kind: 'kinetic' is not allowed; one of kinetics, webdataset, files, manifest, youtube8m; did you mean kinetics?",
        "k400.yaml:3:3: source.urii: is not a field; one of kind, uri, annotations, replacements, vocabulary, "
        "recursive, shard_files, deleted, allow; did you mean uri?",
        "k400.yaml:4:9: output: must be text; got 7; put it in quotes",
        "k400.yaml:5:15: decode.fps: must be a number; got 'fast'",
        "k400.yaml:5:29: decode.clip_s: must be above 0; got -1",
        "k400.yaml: source.uri is missing; add it or pass --source.uri",
        "--limits.max-pixels: must be a whole number; got 'many'",
    ]


def test_an_error_shows_its_line_with_a_caret(tmp_path: Path) -> None:
    assert told(tmp_path, GOOD + "decode:\n  fps: fast\n").splitlines()[1:] == ["   4 |   fps: fast", "     |        ^"]


def test_the_caret_of_a_long_line_stays_on_a_narrow_screen(tmp_path: Path) -> None:
    text = GOOD + f"decode: {{clip_s: {'1' * 200}, fps: fast}}\n"
    shown, caret = told(tmp_path, text).splitlines()[1:]
    assert len(shown) <= 80
    assert shown[caret.index("^") :].startswith("fast")


def test_the_caret_counts_wide_characters_twice(tmp_path: Path) -> None:
    shown, caret = told(tmp_path, "output: 日本\nsource: {uri: 日本, kind: x}\n").splitlines()[1:]
    assert caret.index("^") == shown.index("x") + 2


def test_a_flags_error_names_the_flag_even_if_the_file_has_the_field(tmp_path: Path) -> None:
    (only,) = errors(tmp_path, GOOD, source__kind="kinetic")
    assert only.startswith("--source.kind: 'kinetic' is not allowed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decode: 5", "3:9: decode: must be a section with fps, clip_s; got 5"),
        ("decode: [fps]", "3:9: decode: must be a section with fps, clip_s; got a list of 1"),
        ("embed: mobilenet-v2", "3:8: embed: must be a list; got 'mobilenet-v2'; write [mobilenet-v2]"),
        ("tag: [a, 1]", "3:10: tag[1]: must be text; got 1; put it in quotes"),
        ("frame_embeddings: maybe", "3:19: frame_embeddings: must be true or false; got 'maybe'"),
        ("name: 2026-01-01", "3:7: name: must be text; got the date 2026-01-01; put it in quotes"),
        ("name: !x y", "3:7: name: must be text; got a value tagged !x; put it in quotes"),
        ("name:", "3:1: name: has no value; write one, or remove the line for the default"),
        ("name: ''", "3:7: name: must be at least 1 character long; got ''"),
        ("limits: {max_frames: 1.5}", "3:22: limits.max_frames: must be a whole number; got 1.5"),
        ("limits: {max_failed: -1}", "3:22: limits.max_failed: must be at least 0; got -1"),
        ("models: [3]", "3:10: models[0]: must be a section with name, tagger, factory"),
        ("models: [{name: a, factory: 'a:b', weights: w}]", "3:10: models[0].sha256: is missing; add it"),
        ("models: [{name: a, tagger: w, crop: 9}]", "3:10: models[0]: crop does not go with tagger, whose file says all of that; take crop out"),
        (f"models: [{{name: a, factory: 'a:b', weights: w, sha256: {'a' * 64}, mean: [1.0]}}]", "[0].mean: must have 3 values; got a list of 1"),
        ("models: [{name: a, factory: 'a:b', weights: w, sha256: a1}]", "models[0].sha256: 'a1' does not fit; give 64 hex digits"),
        ("max_pixels: 3", "3:1: max_pixels: is not a field; one of name, source"),
        ("max_pixels: 3", "did you mean limits.max_pixels?"),
        ("frame-embeddings: true", "did you mean frame_embeddings?"),
        ("7: 8", "3:1: 7: is not a field"),
    ],
)  # fmt: skip
def test_each_mistake_has_plain_words(tmp_path: Path, text: str, message: str) -> None:
    (only,) = errors(tmp_path, f"{GOOD}{text}\n")
    assert message in only


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: *.mp4", "3:4: a value that begins with * must be in quotes"),
        ("a: b: c", "3:5: this ':' does not fit here"),
        ("a:\n\t- b", "4:1: a tab stands here; indent with spaces"),
        ("a: [1, 2\nb: 3", "3:4: this [ is not closed; add the ]"),
        ("a: {b: 1", "3:4: this { is not closed; add the }"),
        ("a: 'x\nb: 2", "3:4: this quote is not closed"),
        ("a: @x", "3:4: a value that begins with this character must be in quotes"),
        ("a:\n  b: 1\n c: 2", "5:2: the indentation fits no line above"),
        ("---\na: 1", "3:1: a second document begins here"),
        ('a: "\\q"', "3:6: a backslash in double quotes begins an escape"),
        ("output: /b", "3:1: 'output' is written twice in this section; keep one"),
        ("a: \x01", "3:4: a control character stands here; remove it"),
        ("a: }", "3:4: this is not YAML"),
    ],
)  # fmt: skip
def test_broken_yaml_is_told_where_and_how_to_mend_it(tmp_path: Path, text: str, message: str) -> None:
    lines = told(tmp_path, GOOD + text).splitlines()
    assert lines[0].startswith(f"k400.yaml:{message}")
    assert lines[2].endswith("^")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "k400.yaml: is empty; `vidmill init` writes a file to start from"),
        ("# nothing\n", "k400.yaml: is empty"),
        ("- a\n", "k400.yaml:1:1: must be fields such as `output: FOLDER`; got a list of 1"),
        ("text\n", "k400.yaml:1:1: must be fields such as `output: FOLDER`; got 'text'"),
        (b"\x00\xff\xfe", "k400.yaml: is not text in UTF-8 (byte 1)"),
        (b"x" * (2 << 20), "k400.yaml: 2,097,152 bytes are too many for a configuration"),
        ("[" * 5000, "k400.yaml: is not YAML that can be read"),
    ],
)  # fmt: skip
def test_what_is_no_configuration_is_turned_away(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert errors(tmp_path, text)[0].startswith(message)


def test_a_missing_file_names_the_one_that_was_meant(tmp_path: Path) -> None:
    (tmp_path / "k400.yaml").write_text(GOOD)
    with pytest.raises(Problem, match=r"k40\.yaml: no such file; did you mean .*k400\.yaml\?"):
        load(tmp_path / "k40.yaml", {})
    with pytest.raises(Problem, match="cannot be read"):
        load(tmp_path, {})


def test_merge_keys_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "k400.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"decode: &d {fps: 3}\n")
    assert load(file, {}).decode.fps == 3
    (only,) = errors(tmp_path, GOOD + "limits: &l {max_frames: x}\ncluster: {<<: *l}\n")[:1]
    assert only.startswith("k400.yaml:3:25: limits.max_frames")


def test_the_command_line_spells_every_field() -> None:
    dotted = [name for name, _ in fields()]
    assert {"name", "source.uri", "limits.max_pixels", "cluster.gpus", "models"} <= set(dotted)
    assert "source" not in dotted
    assert flag("limits.max_pixels") == "--limits.max-pixels"


@pytest.mark.parametrize(
    "line", ["output: s3://AKIA:hunter2@bucket/out", "  uri: s3://me:hun/ter2@host/videos", "outptu: s3://k:hunter2@b/o", "a: [s3://k:hunter2@b/o"]
)
def test_a_password_in_an_address_is_not_repeated(tmp_path: Path, line: str) -> None:
    """P12: the line of the file was shown as it is."""
    message = told(tmp_path, f"source:\n  kind: files\n{line}\n")
    assert "ter2" not in message
    assert "@" in message
