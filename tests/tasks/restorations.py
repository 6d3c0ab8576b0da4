"""Restorations that are quick and known, and a meter that counts."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from models.picture import Picture, PictureFormat


class Identity:
    """Pictures as they were."""

    gpu_s = 0.0

    def output_format(self, form: PictureFormat) -> PictureFormat:
        return form

    def restore(self, pictures: Iterable[Picture], form: PictureFormat) -> Iterator[tuple[Picture, Picture]]:
        for picture in pictures:
            yield picture, picture


class Doubled(Identity):
    """Every pixel four times."""

    def output_format(self, form: PictureFormat) -> PictureFormat:
        return replace(form, width=2 * form.width, height=2 * form.height)

    def restore(self, pictures: Iterable[Picture], form: PictureFormat) -> Iterator[tuple[Picture, Picture]]:
        height, width = self.output_format(form).chroma_shape
        for picture in pictures:
            y, u, v = (_doubled(plane) for plane in picture.planes)
            yield picture, Picture((y, u[:height, :width], v[:height, :width]), picture.pts)


def _doubled(plane: np.ndarray) -> np.ndarray:
    return plane.repeat(2, 0).repeat(2, 1)


class Count:
    """How many pairs there were."""

    def __init__(self, form: PictureFormat, output_form: PictureFormat) -> None:
        self.forms, self.pictures = (form, output_form), 0

    def add(self, source: Picture, restored: Picture) -> None:
        assert source.pts == restored.pts
        self.pictures += 1

    def quality(self) -> int:
        return self.pictures
