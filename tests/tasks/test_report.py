"""The page of before and after: worst first, nothing from elsewhere, and no text of the corpus is markup."""

import io
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks import report
from tasks.feature import Feature
from tasks.media import media_folder, media_name
from tasks.report import write_report
from tasks.schema import ENHANCED

DENOISE, UPSCALE = Feature("enhanced", "denoise", "a0000000"), Feature("enhanced", "upscale-x2", "b0000000")
CLIPS = Feature("clips", None, "c0000000")


def picture(level: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (96, 64), (level, 128, 255 - level)).save(target, "JPEG")
    return target.getvalue()


def row(clip_id: str, psnr_down_db: float | None, **more: Any) -> dict[str, Any]:
    values = {"clip_id": clip_id, "psnr_down_db": psnr_down_db, "noise_before": 9.0, "noise_after": 2.0, "flicker_before": 3.0}
    spent = {"flicker_after": 1.0, "elapsed_s": 30.0, "gpu_s": 0.0, "duration_s": 10.0, "sample_time_s": 1.5}
    return {**values, **spent, "before_jpeg": picture(10), "after_jpeg": picture(200), **more}


def publish(output: Path, feature: Feature, shard: str, rows: Iterable[dict[str, Any]]) -> None:
    path = output / feature.folder / f"{shard}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), ENHANCED), path)


def page_of(output: Path, *features: Feature, shards: Iterable[str] = ("part_0", "part_1"), name: str = "k400") -> str:
    uri = write_report(str(output), "20260101T000000-abcdef", name, (CLIPS, *features), list(shards))
    assert uri == f"{output}/_runs/20260101T000000-abcdef/report.html"
    return Path(uri).read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Tags with their attributes, and text by tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags:
            self.texts.append((self.tags[-1][0], data.strip()))


def headings(page: str) -> list[str]:
    return re.findall(r"<h3><bdi>(.*?)</bdi></h3>", page)


def test_the_worst_come_first_and_what_was_not_measured_last(tmp_path: Path) -> None:
    publish(tmp_path, DENOISE, "part_0", [row("a", 31.0), row("b", None), row("c", 28.5)])
    publish(tmp_path, UPSCALE, "part_1", [row("d", 30.0), row("e", 100.0), row("f", float("nan"))])
    assert headings(page_of(tmp_path, DENOISE, UPSCALE)) == ["c", "d", "a", "e", "b", "f"]


def test_only_some_are_shown_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the corpus, the page and the memory it takes stay small."""
    monkeypatch.setattr(report, "MOST_PICTURES", 3)
    for shard in range(2):
        publish(tmp_path, DENOISE, f"part_{shard}", [row(f"{shard}-{k}", 40.0 - k + shard / 2, noise_before=float(k)) for k in range(5)])
    publish(tmp_path, DENOISE, "gone", [row("not in the corpus any more", 1.0)])
    page = page_of(tmp_path, DENOISE)
    assert headings(page) == ["0-4", "1-4", "0-3"]
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert cells == ["10", "2.00", "2.00", "3.00", "1.00", "38.2 dB", "1.7 min", "5.0 min", "0.0 s"]


def test_medians_are_of_a_sample_where_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "SAMPLED", 4)
    publish(tmp_path, DENOISE, "part_0", [row(f"{k:03}", 40.0, noise_before=float(k)) for k in range(100)])
    cells = re.findall(r"<td>(.*?)</td>", page_of(tmp_path, DENOISE, shards=["part_0"]))
    assert cells[:2] == ["100", "37.50"]


def test_pictures_have_words_and_links_lead_to_the_media(tmp_path: Path) -> None:
    clip_id = "x/a b.mp4#2000"
    publish(tmp_path, DENOISE, "part 0", [row(clip_id, 30.0)])
    found = Elements(page_of(tmp_path, DENOISE, shards=["part 0"]))
    pictures = [attributes for tag, attributes in found.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [f"{clip_id} before", f"{clip_id} after denoise"]
    assert all(str(picture["src"]).startswith("data:image/jpeg;base64,/9j/") for picture in pictures)
    (link,) = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    there = (tmp_path / "_runs" / "run" / unquote(str(link))).resolve()
    assert str(there) == f"{media_folder(str(tmp_path), DENOISE, 'part 0')}/{media_name(clip_id)}"


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    """P12: no script, no address; the browser is told to allow neither."""
    publish(tmp_path, DENOISE, "part_0", [row("a", 30.0)])
    page = page_of(tmp_path, DENOISE)
    assert not re.search(r"<script|https?:|@import|url\(", page)
    assert "default-src 'none'" in page


def test_no_text_of_the_corpus_is_markup(tmp_path: Path) -> None:
    """P12: names of clips, shards and runs are a stranger's text."""
    bad = "</h3><script>alert(1)</script>\" onerror='x' \u202e&amp;"
    publish(tmp_path, DENOISE, "part_0", [row(bad, 30.0)])
    (tmp_path / DENOISE.folder / "part_0.parquet").rename(tmp_path / DENOISE.folder / "&<b>.parquet")
    found = Elements(page_of(tmp_path, DENOISE, shards=["&<b>"], name="<i>me</i>"))
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "b", "i"})
    assert ("bdi", bad) in found.texts
    assert ("bdi", "<i>me</i>") in found.texts
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_a_run_without_pictures_has_a_page_too(tmp_path: Path) -> None:
    publish(tmp_path, DENOISE, "part_0", [row("a", None, before_jpeg=b"", after_jpeg=None, noise_before=None)])
    page = page_of(tmp_path, DENOISE, UPSCALE)
    assert "No published clip has pictures to show." in page
    assert re.findall(r"<td>(.*?)</td>", page)[:2] == ["1", "-"]
