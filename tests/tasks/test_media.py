"""Names of media: safe on every disk and in every store, and no two clips share one."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tasks.feature import Feature
from tasks.media import LONGEST_NAME, SUFFIX, listed_digest, listing_digest, media_folder, media_name

CLIP_IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)

LISTINGS = st.dictionaries(CLIP_IDS.map(media_name), st.integers(0, 99), max_size=4)


def test_a_kinetics_clip_is_called_as_it_is() -> None:
    assert media_name("-a_b-000001_000001_000011") == "-a_b-000001_000001_000011.mp4"
    assert media_name("x/a b.mp4#2000") == "x%2Fa%20b.mp4%232000.mp4"


@given(CLIP_IDS)
def test_a_name_is_one_component_of_plain_characters_and_not_too_long(clip_id: str) -> None:
    name = media_name(clip_id)
    assert name.isascii()
    assert not set(name) & set("/\\ #?*[]\"'<>|:\0\n")
    assert len(name) <= LONGEST_NAME + len(SUFFIX)
    assert name.endswith(SUFFIX)
    assert name not in (".", "..")


@given(CLIP_IDS, CLIP_IDS)
def test_two_clips_have_two_names(one: str, other: str) -> None:
    assert (media_name(one) == media_name(other)) == (one == other)


def test_a_name_that_was_cut_is_no_other_clips_own() -> None:
    long = media_name("a" * 300)
    assert len({long, media_name("a" * 301), media_name(long.removesuffix(SUFFIX))}) == 3


@given(LISTINGS, LISTINGS)
def test_a_listing_is_told_from_any_other(one: dict[str, int], other: dict[str, int]) -> None:
    assert (listing_digest(one) == listing_digest(other)) == (one == other)
    assert listing_digest({}) == ""


def test_what_lies_in_a_folder_has_the_digest_of_its_listing(tmp_path: Path) -> None:
    feature = Feature("enhanced", "denoise", "a0000000")
    assert listed_digest(str(tmp_path), feature, "part_0") == ""
    folder = Path(media_folder(str(tmp_path), feature, "part_0"))
    assert str(folder.relative_to(tmp_path)) == "media/recipe=denoise/version=a0000000/part_0"
    folder.mkdir(parents=True)
    (folder / "a.mp4").write_bytes(b"123")
    assert listed_digest(str(tmp_path), feature, "part_0") == listing_digest({"a.mp4": 3})
