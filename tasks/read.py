"""Reading a shard: every member becomes an encoded clip or a failure, in the order they come, one in memory at a time.

    kinetics      <video>_<start>_<end>.mp4 in a tar            -> the clip of that name
    webdataset    <key>.mp4 [+ <key>.cls] in a tar              -> the clip <key>
    youtube8m     one record of a TFRecord file                 -> the clip of its id, still packed
    loose videos  windows of `clip_s` seconds                   -> <path>#<start in ms>; bytes stay where they are

Knows containers of clips, not codecs; a video's length is asked of a decoder process.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath

import xxhash

from infra import storage
from infra.settings import RunConfig, SourceKind
from infra.storage import Cause, ObjectInfo, StorageError
from tasks import youtube8m
from tasks.clip import ClipError, ClipInfo, FailureKind, Window
from tasks.encoded import EncodedClip, failed_clip
from tasks.feature import SOURCE_STAGES
from tasks.isolate import Decoder
from tasks.shardwork import ShardWork, attempt_of, held_etags, key_of, published_clips, published_failures
from tasks.source import LOOSE, SourceFile, is_video
from tasks.tar import BadMember, Member, members
from tasks.tfrecord import BadRecord, Record, records

MAX_LABEL_BYTES = 1 << 12  # of a .cls, which holds a number or a name
MAX_TIME_DIGITS = 9  # Kinetics writes six; more are no seconds of any video
SHORTEST_TAIL_S = 0.1  # of a video whose frame rate is unknown; a window needs room for a frame


class ShardReader:
    """Iterates the clips of a shard once.

    Attributes:
        ignored: members so far that are no video and do not claim to be one.

    Raises:
        StorageError: on iteration, where the store fails; one missing or forbidden video is a failure of its own.
    """

    def __init__(self, work: ShardWork, config: RunConfig) -> None:
        self.work, self.config = work, config
        self.ignored = 0
        self._taken: dict[str, int] = {}

    def __iter__(self) -> Iterator[EncodedClip]:
        """Every clip of the shard, good or bad; keys are unique."""
        held = held_etags(self.config.output, self.work)
        for clip in self._clips():
            yield replace(clip, source_etag=held[clip.key]) if clip.key in held else clip

    def _clips(self) -> Iterator[EncodedClip]:
        if self.config.source.kind in LOOSE:
            yield from self._loose()
            return
        file = self.work.shard.files[0]
        with storage.open_stream(ObjectInfo(file.uri, file.size_bytes, file.etag)) as stream:
            if self.config.source.kind is SourceKind.YOUTUBE8M:
                found = records(stream, max_bytes=self.config.limits.max_bytes)
                yield from (self._once(_record_clip(file, record)) for record in found)
                return
            read = self._webdataset if self.config.source.kind is SourceKind.WEBDATASET else self._kinetics
            for clip in read(file, members(stream, max_bytes=self.config.limits.max_bytes, wanted=self._is_wanted)):
                yield self._once(clip)

    def _is_wanted(self, name: str) -> bool:
        wanted = is_video(name) or (self.config.source.kind is SourceKind.WEBDATASET and name.endswith(".cls"))
        self.ignored += not wanted
        return wanted

    def _once(self, clip: EncodedClip) -> EncodedClip:
        """A clip_id belongs to the first member that has it."""
        copies = self._taken[clip.key] = self._taken.get(clip.key, 0) + 1
        if copies == 1:
            return clip
        error = ClipError(FailureKind.BAD_NAME, f"the clip {clip.key} is in the archive already, the first is used; rename or remove this one")
        return failed_clip(error, uri=f"{clip.uri} (copy {copies})", etag=clip.source_etag, size_bytes=clip.size_bytes)

    def _kinetics(self, file: SourceFile, items: Iterator[Member | BadMember]) -> Iterator[EncodedClip]:
        for item in items:
            yield _bad(file, item, _clip_name(item.name)) if isinstance(item, BadMember) else _kinetics_clip(file, item)

    def _webdataset(self, file: SourceFile, items: Iterator[Member | BadMember]) -> Iterator[EncodedClip]:
        for key, sample in groupby(items, key=lambda item: sample_key(item.name)):
            label: str | None = None
            videos: list[EncodedClip] = []
            for item in sample:
                if isinstance(item, BadMember):
                    yield _bad(file, item)
                elif not item.name.endswith(".cls"):
                    clip = _sample_clip(file, key, item)
                    videos.append(replace(clip, data=None) if videos else clip)  # one is held: the others will be told as its copies
                elif item.size_bytes <= MAX_LABEL_BYTES:
                    label = item.data.decode("utf-8", "replace").strip()
                else:
                    error = ClipError(FailureKind.BAD_RECORD, f"a label of {item.size_bytes:,} bytes (at most {MAX_LABEL_BYTES:,}); correct it")
                    yield failed_clip(error, uri=_member_uri(file, item.name), etag=item.digest, size_bytes=item.size_bytes)
            yield from (replace(clip, label=label) for clip in videos)

    def _loose(self) -> Iterator[EncodedClip]:
        listed = _listed(self.config.output, self.work) if self.work.listed else {}
        decoder = Decoder(self.config.limits)
        for file in self.work.shard.files:
            earlier = listed.get((file.uri, file.etag))
            yield from (_again(file, row) for row in earlier) if earlier else self._windows(file, decoder)

    def _windows(self, file: SourceFile, decoder: Decoder) -> Iterator[EncodedClip]:
        try:
            if file.refused:
                raise ClipError(*file.refused)
            if not file.etag:
                raise ClipError(FailureKind.MISSING, "the manifest names it and it is not there; correct the uri or bring the file")
            with storage.open_seekable(ObjectInfo(file.uri, file.size_bytes, file.etag)) as video:
                info = decoder.probe(video)
        except (ClipError, StorageError) as error:
            yield failed_clip(as_clip_error(error), uri=file.uri, etag=file.etag, size_bytes=file.size_bytes)
            return
        for window in windows_of(info, self.config.decode.clip_s):
            yield _window_clip(file, window)


def as_clip_error(error: ClipError | StorageError) -> ClipError:
    """What one video's storage error means for its clips; raises it again where the whole store is in trouble."""
    if isinstance(error, ClipError):
        return error
    kinds = {
        Cause.NOT_FOUND: FailureKind.MISSING,
        Cause.NOT_FILE: FailureKind.UNSUPPORTED,
        Cause.DENIED: FailureKind.STORAGE,
        Cause.BAD_URI: FailureKind.STORAGE,
    }
    if error.cause not in kinds:
        raise error
    return ClipError(kinds[error.cause], str(error))


def windows_of(info: ClipInfo, clip_s: float) -> list[Window]:
    """Cut a video into clips of `clip_s` seconds.

    The last may be shorter, but never shorter than a frame:

        |0        |10       |20   |23.4
        [ 0 .. 10 )[10 .. 20)[20..23.4)
    """
    tail_s = 1 / info.fps if info.fps else SHORTEST_TAIL_S
    count = max(1, math.ceil((info.duration_s - tail_s) / clip_s))
    return [Window(k * clip_s, min((k + 1) * clip_s, info.duration_s) if k == count - 1 else (k + 1) * clip_s) for k in range(count)]


def sample_key(name: str) -> str:
    """The WebDataset sample a member belongs to: its path up to the first dot of the file name."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _sample_clip(file: SourceFile, key: str, video: Member) -> EncodedClip:
    uri = _member_uri(file, video.name)
    if key.endswith("/") or not key:
        error = ClipError(FailureKind.BAD_NAME, "has no key before its first dot; rename or remove it")
        return failed_clip(error, uri=uri, etag=video.digest, size_bytes=video.size_bytes)
    return EncodedClip(key, key, uri, video.digest, video.size_bytes, 0.0, None, data=video.data)


def _kinetics_clip(file: SourceFile, member: Member) -> EncodedClip:
    uri, clip_id = _member_uri(file, member.name), _clip_name(member.name)
    if clip_id is None:
        error = ClipError(FailureKind.BAD_NAME, "not <video>_<start>_<end>.mp4, such as 0YTxKfvQ-4M_000010_000020.mp4; rename or remove it")
        return failed_clip(error, uri=uri, etag=member.digest, size_bytes=member.size_bytes)
    video_id, start, end = clip_id.rsplit("_", 2)
    return EncodedClip(clip_id, video_id, uri, member.digest, member.size_bytes, float(start), float(end), data=member.data)


def _clip_name(name: str) -> str | None:
    """The clip_id in a Kinetics member's name; the video's id may hold `_` and begin with `-`."""
    path = PurePosixPath(name)
    video_id, *times = path.stem.rsplit("_", 2)
    fits = len(times) == 2 and video_id and all(time.isascii() and time.isdigit() and len(time) <= MAX_TIME_DIGITS for time in times)
    return path.stem if fits and not path.name.startswith("._") else None


def _record_clip(file: SourceFile, record: Record | BadRecord) -> EncodedClip:
    """A record of YouTube-8M as a clip that is not parsed yet, but for its id."""
    uri = _member_uri(file, str(record.offset))
    if isinstance(record, BadRecord):
        return failed_clip(ClipError(record.kind, record.message), uri=uri, etag=file.etag, size_bytes=0)
    digest = xxhash.xxh3_64_hexdigest(record.data)
    try:
        name = youtube8m.id_of(record.data)
    except ClipError as error:
        return failed_clip(error, uri=uri, etag=digest, size_bytes=len(record.data))
    return EncodedClip(name, name, uri, digest, len(record.data), 0.0, None, data=bytes(record.data))


def _bad(file: SourceFile, item: BadMember, clip_id: str | None = None) -> EncodedClip:
    """A member without content; damage behind the last member is told of the archive itself."""
    uri = _member_uri(file, item.name) if item.name else file.uri
    return failed_clip(ClipError(item.kind, item.message), uri=uri, etag=file.etag, size_bytes=0, clip_id=clip_id)


def _member_uri(file: SourceFile, name: str) -> str:
    return f"{file.uri}!{name}"


def _window_clip(file: SourceFile, window: Window) -> EncodedClip:
    clip_id = f"{file.name}#{round(window.start_s * 1000)}"
    return EncodedClip(clip_id, file.name, file.uri, file.etag, file.size_bytes, window.start_s, window.end_s, window=window)


def _listed(output: str, work: ShardWork) -> Mapping[tuple[str, str], Sequence[Mapping[str, object]]]:
    """What published tables say of each video in a given state; its file need not be opened to know its clips."""
    clips = published_clips(output, work, ("clip_id", "uri", "source_etag", "start_s", "end_s")).to_pylist()
    rows = [*clips, *(row for row in published_failures(output, work) if row["stage"] in SOURCE_STAGES)]
    again = {_video_of(row) for row in rows if "stage" in row and attempt_of(row) in work.retried}  # a failure does not tell its window
    return {video: list(group) for video, group in groupby(sorted(rows, key=_video_of), key=_video_of) if video not in again}


def _video_of(row: Mapping[str, object]) -> tuple[str, str]:
    return str(row["uri"] if "uri" in row else row["member"]), str(row["source_etag"])


def _again(file: SourceFile, row: Mapping[str, object]) -> EncodedClip:
    """A clip as an earlier run published it."""
    if "stage" in row:
        key, etag = key_of(dict(row))
        return EncodedClip(key, file.name, file.uri, etag, file.size_bytes, 0.0, None)
    start_s, end_s = float(str(row["start_s"])), float(str(row["end_s"]))
    window = Window(start_s, end_s)
    return EncodedClip(str(row["clip_id"]), file.name, file.uri, file.etag, file.size_bytes, start_s, end_s, window=window)
