"""A receipt is believed of the version it was written for, and of no other."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.storage import ObjectInfo
from tasks.lake_receipt import Receipt, Registered, read_receipt, write_receipt

registered = st.builds(Registered, st.integers(0, 2**50), st.text(max_size=40), st.integers(0, 2**40))
receipts = st.builds(Receipt, st.text(max_size=20), st.dictionaries(st.text(max_size=20), registered, max_size=4), st.lists(st.text()).map(tuple))


@given(receipts)
def test_it_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, receipt: Receipt) -> None:
    uri = str(tmp_path_factory.mktemp("receipt") / "table.json")
    write_receipt(uri, receipt)
    assert read_receipt(uri, receipt.version) == receipt
    assert read_receipt(uri, receipt.version + "x") is None
    assert read_receipt(uri, None) is None


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"version": "1", "left_out": [], "files": {"a": [1]}}', b'{"version": "1", "files": 3}']
)
def test_what_is_no_receipt_is_as_if_there_were_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "table.json").write_bytes(data)
    assert read_receipt(str(tmp_path / "table.json"), "1") is None


def test_a_file_is_another_by_size_or_etag() -> None:
    was = Registered(3, "a", 1)
    assert [was.is_as(ObjectInfo("u", size, etag)) for size, etag in ((3, "a"), (4, "a"), (3, "b"))] == [True, False, False]
