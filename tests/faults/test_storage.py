"""P8, P3: an S3 store that fails in every way a store can, one request at a time."""

import io
import os
import random
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from infra import s3, s3_request, storage
from infra.storage import Cause, StorageError
from tests.faults.proxy import (
    Action,
    Answer,
    Asked,
    Forward,
    Proxy,
    any_of,
    first,
    lost_answer,
    nothing,
    refuse,
    refuse_after,
    reset_after,
    stall,
    truncate,
    without,
)

PART_BYTES = 1 << 16  # the smallest that tests/conftest.py lets moto take
LARGE = random.Random(1).randbytes(2 * PART_BYTES + 1000)
SMALL = random.Random(2).randbytes(50_000)
PASSING = {
    "SlowDown": refuse(503, "SlowDown"),
    "InternalError": refuse(500, "InternalError"),
    "TooManyRequests": refuse(429, "TooManyRequests"),
    "RequestTimeout": refuse(400, "RequestTimeout"),
    "IncompleteBody": refuse(400, "IncompleteBody"),
    "BadDigest": refuse(400, "BadDigest"),
    "ConditionalRequestConflict": refuse(409, "ConditionalRequestConflict"),
    "reset": reset_after(0),
    "reset in the body": reset_after(20),
}

SHORT = {"SlowDown", "RequestTimeout", "ConditionalRequestConflict", "reset", "reset in the body"}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", PART_BYTES)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "STREAM", (10_000, 3, 1))


def uploads(bucket: str) -> int:
    return len(s3_request.request(f"s3://{bucket}/x", "list_multipart_uploads", Bucket=bucket).get("Uploads", ()))


def publish(uri: str, data: bytes) -> None:
    storage.publish(uri, lambda file: file.write(data))


@pytest.mark.parametrize("fault", [name if name in SHORT else pytest.param(name, marks=pytest.mark.nightly) for name in PASSING])
def test_what_passes_is_waited_out_in_every_request(proxy: Proxy, bucket: str, small_parts: None, fault: str) -> None:
    """P8: without `fault` in PASSING_CODES, PASSING_STATUS or the passing errors of infra.s3_error this fails."""
    uri = f"s3://{bucket}/folder/x"
    proxy.breaks(PASSING[fault], times=None, every=2)
    publish(uri, LARGE)
    with storage.open_stream(uri) as file:
        assert file.read() == LARGE
    publish(uri, SMALL)
    assert [(found.uri, found.size_bytes) for found in storage.list_objects(f"s3://{bucket}/folder")] == [(uri, len(SMALL))]
    assert storage.read_bytes(uri) == SMALL
    storage.delete_tree(f"s3://{bucket}/folder")
    assert storage.list_names(f"s3://{bucket}/folder") == {}


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (400, "ExpiredToken", "the S3 credentials have expired (ExpiredToken); renew them (`aws sso login`, or a new AWS_SESSION_TOKEN), then run"),
        (403, "ExpiredToken", "the S3 credentials have expired (ExpiredToken); renew them"),
        (403, "InvalidAccessKeyId", "the S3 credentials are not accepted (InvalidAccessKeyId); check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "the S3 credentials are not accepted (SignatureDoesNotMatch); check AWS_ACCESS_KEY_ID"),
        (403, "RequestTimeTooSkewed", "the clock of this machine is wrong (RequestTimeTooSkewed); set it"),
        (403, "InvalidObjectState", "is in an archive tier (InvalidObjectState); restore the object"),
        (403, "AccessDenied", "permission denied (AccessDenied); check owner and mode of the path, or the bucket's policy"),
        (501, "NotImplemented", "the store does not offer this (NotImplemented); name another store"),
        (404, "NoSuchKey", "not found; check the spelling"),
        (412, "PreconditionFailed", "changed meanwhile; run the same command again once nobody writes to it"),
        (400, "InvalidPart", "failed (InvalidPart); run the same command again"),
        (503, "SlowDown", "the store kept failing (SlowDown); run the same command again, it goes on where it stopped"),
    ],
)
def test_every_cause_is_told_with_what_to_do(proxy: Proxy, bucket: str, status: int, code: str, line: str) -> None:
    """P8: without the code in CAUSES of infra.s3_error the advice would be another's; what does not pass is asked once."""
    proxy.breaks(refuse(status, code), times=None)
    with pytest.raises(StorageError) as caught:
        storage.read_bytes(f"s3://{bucket}/x")
    assert str(caught.value).startswith(f"s3://{bucket}/x: {line}")
    assert "\n" not in str(caught.value)
    assert (proxy.count("GET") > 1) is (code == "SlowDown")


def test_a_head_without_a_reason_is_asked_again_for_it(proxy: Proxy, bucket: str) -> None:
    """P8: without _stat_by_list in infra.s3.stat expired credentials are `failed (400)`, because the answer to a HEAD has no body."""
    proxy.breaks(refuse(400, "ExpiredToken"), times=None)
    with pytest.raises(StorageError) as caught:
        storage.exists(f"s3://{bucket}/x")
    assert caught.value.cause is Cause.EXPIRED


def test_a_store_that_says_when_to_come_back_is_believed(proxy: Proxy, bucket: str) -> None:
    """P8: without wait_s in infra.s3_request a store that asks for a pause beyond the budget is asked many times."""
    proxy.breaks(refuse(503, "SlowDown", Retry_After="30"), times=None)
    with pytest.raises(StorageError, match="SlowDown"):
        storage.read_bytes(f"s3://{bucket}/x")
    assert proxy.count("GET") == 1


def test_a_store_that_falls_silent_is_asked_again(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: without the time limit of one try this would wait for the store's answer."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=20, attempt_s=0.3, pause_s=0.02))
    publish(f"s3://{bucket}/x", SMALL)
    fault = proxy.breaks(stall(1.5), method="GET", times=2)
    assert storage.read_bytes(f"s3://{bucket}/x") == SMALL
    assert fault.met == 2


def test_a_store_that_used_up_one_budget_does_not_get_it_for_every_request(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8: without _budget_s in infra.s3_request every request of a run that ends would wait for the whole budget."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=1.0, hopeless_s=0.0, pause_s=0.02, longest_pause_s=0.1))
    proxy.breaks(refuse(503, "SlowDown"), times=None)
    asked = []
    for _ in range(3):
        with pytest.raises(StorageError, match="SlowDown"):
            storage.read_bytes(f"s3://{bucket}/x")
        asked.append(proxy.count("GET") - sum(asked))
    assert asked[0] > 5
    assert asked[1:] == [1, 1]
    proxy.heal()
    publish(f"s3://{bucket}/x", SMALL)
    proxy.breaks(refuse(503, "SlowDown"), times=5)
    assert storage.read_bytes(f"s3://{bucket}/x") == SMALL, "one good answer, and the store is trusted again"


LOST = {"PUT": ("PUT", ""), "part": ("PUT", "uploadId"), "create": ("POST", "uploads"), "complete": ("POST", "uploadId")}


@pytest.mark.parametrize("request_kind", LOST)
def test_a_write_whose_answer_is_lost_is_written_once(proxy: Proxy, bucket: str, small_parts: None, request_kind: str) -> None:
    """P8, P3: without `except NoUpload` in infra.s3 a completed upload would be told as one that failed."""
    method, query = LOST[request_kind]
    for data in (LARGE, LARGE[::-1], LARGE[::-1]):  # over nothing, over something else of this size, over the same
        written = SMALL if request_kind == "PUT" else data
        fault = proxy.breaks(lost_answer, method=method, query=query)
        proxy.breaks(refuse(404, "NoSuchUpload"), method=method, query=query, times=request_kind == "complete")  # what S3 says the second time
        publish(f"s3://{bucket}/x", written)
        assert fault.met == 1
        assert storage.read_bytes(f"s3://{bucket}/x") == written
        proxy.heal()


@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
def test_an_error_inside_a_200_is_an_error(proxy: Proxy, bucket: str, small_parts: None, code: str) -> None:
    """P8, P3: S3 answers CompleteMultipartUpload with 200 before it knows; believed, the shard would be missing."""
    fault = proxy.breaks(refuse(200, code), method="POST", query="uploadId", times=2)
    publish(f"s3://{bucket}/x", LARGE)
    assert fault.met == 2
    assert storage.read_bytes(f"s3://{bucket}/x") == LARGE
    proxy.breaks(refuse_after(200, code), method="POST", query="uploadId")
    publish(f"s3://{bucket}/x", LARGE[::-1])
    assert storage.read_bytes(f"s3://{bucket}/x") == LARGE[::-1]
    proxy.breaks(refuse(200, "InvalidPart"), method="POST", query="uploadId", times=None)
    with pytest.raises(StorageError, match="InvalidPart"):
        publish(f"s3://{bucket}/x", LARGE)
    assert storage.read_bytes(f"s3://{bucket}/x") == LARGE[::-1]
    assert uploads(bucket) == 0


def test_an_upload_that_somebody_aborted_is_not_taken_for_done(proxy: Proxy, bucket: str, small_parts: None) -> None:
    """P3: without the comparison with what was there before, an old object of the same size counts as the new one."""
    uri = f"s3://{bucket}/x"
    publish(uri, LARGE)
    proxy.breaks(refuse(404, "NoSuchUpload"), method="POST", query="uploadId")
    with pytest.raises(StorageError, match="changed meanwhile \\(its multipart upload was aborted\\); run the same command again"):
        publish(uri, LARGE[::-1])
    assert storage.read_bytes(uri) == LARGE


@pytest.mark.parametrize(
    "action", [lost_answer, refuse(409, "ConditionalRequestConflict"), refuse_after(503, "SlowDown")], ids=["lost", "409", "503"]
)
def test_a_conditional_write_knows_its_own(proxy: Proxy, bucket: str, action: Action) -> None:
    """P8: without the comparison of the content in infra.s3._put_if a lost answer looks like somebody else's write."""
    uri = f"s3://{bucket}/x"
    proxy.breaks(action, method="PUT", header="If-None-Match")
    created = storage.create_exclusive(uri, b"mine")
    assert created is not None
    proxy.breaks(action, method="PUT", header="If-Match")
    replaced = storage.replace_if(uri, b"mine again", created)
    assert replaced is not None
    assert storage.read_versioned(uri).version == replaced
    assert storage.create_exclusive(uri, b"yours") is None
    assert storage.replace_if(uri, b"yours", created) is None
    assert storage.read_bytes(uri) == b"mine again"


@pytest.mark.parametrize("store", [nothing, without("If-Match")], ids=["that keeps If-Match", "that ignores it"])
def test_an_object_replaced_between_two_blocks_is_never_mixed(proxy: Proxy, bucket: str, small_blocks: None, store: Action) -> None:
    """P3, P11: without the etag's check in infra.s3_read a store that ignores If-Match mixes old blocks with new ones."""
    uri = f"s3://{bucket}/x"
    publish(uri, SMALL)
    proxy.breaks(first(lambda: publish(uri, SMALL[::-1]), store), method="GET", after=1)
    proxy.breaks(store, method="GET", times=None)
    with storage.open_stream(uri) as file, pytest.raises(StorageError) as caught:
        file.read()
    assert caught.value.cause is Cause.CHANGED


@pytest.mark.parametrize("action", [truncate(5000), without("Range")], ids=["cut", "whole"])
def test_an_answer_that_is_not_what_was_asked_for_is_not_believed(proxy: Proxy, bucket: str, small_blocks: None, action: Action) -> None:
    """P3, P11: without the length's check in infra.s3_read a cut archive would look like its end, and a whole one like a block."""
    uri = f"s3://{bucket}/x"
    publish(uri, SMALL)
    proxy.breaks(action, method="GET", after=1, times=None)
    with storage.open_stream(uri) as file, pytest.raises(StorageError, match="bytes came where 10000 were asked for"):
        file.read()


def test_a_body_that_breaks_off_is_fetched_again(proxy: Proxy, bucket: str, small_blocks: None) -> None:
    """P8: without the retry in infra.s3_request the first reset ends the reading."""
    uri = f"s3://{bucket}/x"
    publish(uri, SMALL)
    weather = proxy.breaks(
        any_of(reset_after(1), reset_after(9_999), reset_after(0), refuse(503, "SlowDown"), seed=3), method="GET", times=12, every=2
    )
    with storage.open_stream(uri) as file:
        assert file.read() == SMALL
    with storage.open_seekable(uri) as file:
        file.seek(-10, io.SEEK_END)
        assert file.read() == SMALL[-10:]
    assert weather.met >= 5


def test_keys_that_could_not_be_deleted_together_are_deleted_alone(proxy: Proxy, bucket: str) -> None:
    """P8: without it one throttled key of a thousand ends the run, as DeleteObjects answers 200."""
    for index in range(3):
        publish(f"s3://{bucket}/folder/{index}", b"x")
    body = b"<DeleteResult><Error><Key>folder/1</Key><Code>SlowDown</Code><Message>m</Message></Error></DeleteResult>"

    async def only_some(asked: Asked, forward: Forward) -> Answer:
        fewer = asked.body.replace(b"<Object><Key>folder/1</Key></Object>", b"")
        await forward(Asked(asked.method, asked.path, asked.query, without_digest(asked.headers), asked.target, fewer))
        return Answer(200, {"Content-Type": "application/xml"}, body)

    proxy.breaks(only_some, method="POST", query="delete")
    storage.delete_tree(f"s3://{bucket}/folder")
    assert proxy.count("DELETE") == 1
    assert storage.list_names(f"s3://{bucket}/folder") == {}


def without_digest(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in ("content-md5", "x-amz-checksum-crc32")}


def test_a_list_that_says_there_is_more_and_not_where_ends(proxy: Proxy, bucket: str) -> None:
    """P8, P11: without the check in infra.s3._listed the first page is asked for over and over."""
    publish(f"s3://{bucket}/x", b"x")

    async def cut_short(asked: Asked, forward: Forward) -> Answer:
        answer = await forward(asked)
        return Answer(200, answer.headers, answer.body.replace(b"<IsTruncated>false</IsTruncated>", b"<IsTruncated>true</IsTruncated>"))

    proxy.breaks(cut_short, method="GET", query="list-type", times=20)
    with pytest.raises(StorageError, match="the store cut its list short"):
        storage.list_objects(f"s3://{bucket}/")


def test_uploads_are_swept_page_by_page_and_only_below_the_prefix(proxy: Proxy, bucket: str) -> None:
    """P10: without the markers in infra.s3._uploads only the first page of a killed run's uploads would be aborted."""
    for key in ("a/1", "a/1", "a/2", "a/deep/3", "ab/4"):
        s3_request.request(f"s3://{bucket}/{key}", "create_multipart_upload", Bucket=bucket, Key=key)

    async def two_at_a_time(asked: Asked, forward: Forward) -> Answer:  # moto knows no pages
        answer = await forward(asked)
        found = re.findall(rb"<Upload>.*?</Upload>", answer.body, re.DOTALL)
        marker = asked.query.get("upload-id-marker", "").encode()
        begin = next((number + 1 for number, upload in enumerate(found) if marker and marker in upload), 0)
        page = found[begin : begin + 2]
        marks = [re.sub(rb".*<%b>(.*?)</%b>.*" % (tag, tag), rb"\1", page[-1], flags=re.DOTALL) for tag in (b"Key", b"UploadId")]
        more = b"<NextKeyMarker>%b</NextKeyMarker><NextUploadIdMarker>%b</NextUploadIdMarker><IsTruncated>true</IsTruncated>" % tuple(marks)
        body = b"<ListMultipartUploadsResult>%b%b</ListMultipartUploadsResult>" % (b"".join(page), more if begin + 2 < len(found) else b"")
        return replace(answer, body=body)

    proxy.breaks(two_at_a_time, method="GET", query="uploads", times=20)
    assert storage.sweep(f"s3://{bucket}/a") == 4
    assert proxy.count("GET", "uploads") >= 2
    proxy.heal()
    assert uploads(bucket) == 1
    with pytest.raises(StorageError, match="refused to abort the uploads of a whole bucket"):
        storage.sweep(f"s3://{bucket}")


def test_temporary_files_are_swept_unless_they_are_being_written(tmp_path: Path) -> None:
    """P10: without infra.disk.sweep the temporary file of a killed writer stays for ever; a young one may be another run's."""
    long_ago_s = time.time() - 3600
    for name in ("old.vidmill-tmp", ".old.vidmill-tmp", "young.vidmill-tmp", "old.fragment"):
        (tmp_path / name).write_bytes(b"x")
        if "old" in name:
            os.utime(tmp_path / name, (long_ago_s, long_ago_s))
    assert storage.sweep(str(tmp_path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.fragment", "young.vidmill-tmp"]
    assert storage.sweep(f"{tmp_path}/absent") == 0
