"""The picture track of a clip: what all its pictures share, and what must not get lost on the way to another file.

Knows numbers of libav and ITU-T H.273, nothing of containers or codecs.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from models.picture import Matrix, PictureFormat

UNKNOWN = 2  # H.273: unspecified
_HD_HEIGHT = 720  # from here on players take what is not marked for HD colours
_MATRICES: dict[int, Matrix] = {1: "bt709", 4: "bt601", 5: "bt601", 6: "bt601", 7: "bt709", 9: "bt2020", 10: "bt2020"}


@dataclass(frozen=True, slots=True)
class Colour:
    """How numbers become colours: H.273's codes, 2 where the file does not say."""

    range: int  # libav's: 0 unknown, 1 limited, 2 full
    matrix: int
    primaries: int
    transfer: int

    def meant(self, height: int) -> "Colour":
        """With what players assume of a picture of that height where nothing is marked."""
        if self.matrix != UNKNOWN:
            return self
        return replace(self, matrix=1, primaries=1, transfer=1) if height >= _HD_HEIGHT else replace(self, matrix=6, primaries=6, transfer=6)

    def kept(self, *, height: int, output_height: int) -> "Colour":
        """The marks of a picture that was scaled: as they were, and said aloud where a player would assume something else of the new size."""
        return self if self.meant(height) == self.meant(output_height) else self.meant(height)


@dataclass(frozen=True, slots=True)
class Track:
    """A clip's pictures, but for the pictures."""

    form: PictureFormat
    codec: str  # libav's name of it
    time_base: Fraction  # seconds per unit of every pts
    first_pts: int  # of the first picture
    end_pts: int | None  # of the window; None where the clip is the whole file
    rate: Fraction | None  # pictures per second on average
    colour: Colour
    pixel_aspect: Fraction | None  # width to height of one pixel
    display_matrix: tuple[int, ...] | None  # nine numbers, libavutil/display.h

    @property
    def is_turned(self) -> bool:
        """Whether it is shown with width and height exchanged."""
        return self.display_matrix is not None and abs(self.display_matrix[1]) > abs(self.display_matrix[0])


def matrix_of(colour: Colour, height: int) -> Matrix:
    """Which of the three families of matrices a picture's numbers follow."""
    return _MATRICES.get(colour.meant(height).matrix, "bt709")


def picture_bytes(form: PictureFormat) -> int:
    """Bytes of one picture's planes."""
    height, width = form.chroma_shape
    return (form.width * form.height + 2 * height * width) * (2 if form.bits == 10 else 1)
