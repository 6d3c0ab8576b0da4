"""What nobody marked is what players assume, and stays it when the size changes."""

import pytest

from tasks.track import Colour, matrix_of

UNMARKED = Colour(0, 2, 2, 2)


@pytest.mark.parametrize(("height", "matrix"), [(480, "bt601"), (719, "bt601"), (720, "bt709"), (2160, "bt709")])
def test_unmarked_pictures_follow_their_size(height: int, matrix: str) -> None:
    assert matrix_of(UNMARKED, height) == matrix


@pytest.mark.parametrize(("code", "matrix"), [(1, "bt709"), (5, "bt601"), (6, "bt601"), (9, "bt2020"), (10, "bt2020"), (7, "bt709"), (14, "bt709")])
def test_marked_pictures_do_not(code: int, matrix: str) -> None:
    assert matrix_of(Colour(1, code, 1, 1), 100) == matrix


def test_marks_are_kept_and_added_only_where_a_player_would_change_its_mind() -> None:
    marked = Colour(2, 9, 9, 16)
    assert marked.kept(height=480, output_height=960) == marked
    assert UNMARKED.kept(height=200, output_height=400) == UNMARKED
    assert UNMARKED.kept(height=480, output_height=960) == Colour(0, 6, 6, 6)
