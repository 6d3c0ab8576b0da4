"""Pictures as libav holds them, and as planes: the three arrays of one of six layouts.

    yuv420p yuvj422p yuv444p10le ...   copied as they are
    nv12 p010le yuv411p yuv420p12le    by libswscale to the nearest of 420, 422, 444 at 8 or 10 bits
    rgb24 gbrp pal8 ...                to 444, full range, BT.709
    gray gray10le ...                  luma as it is, chroma without colour

Knows PyAV's pictures and nothing of containers.
"""

from dataclasses import replace
from typing import Any, Literal, cast

import numpy as np
from av.buffer import Buffer
from av.error import FFmpegError
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from models.picture import Chroma, Picture, PictureFormat
from tasks.clip import ClipError, FailureKind
from tasks.track import Colour, matrix_of

LIMITED, FULL = 1, 2  # AVColorRange
_SWSCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """How a picture is turned to be shown: nine numbers, libavutil/display.h."""
    matrix = cast(Buffer | None, frame.side_data.get("DISPLAYMATRIX"))  # PyAV types its side data as object
    return None if matrix is None else tuple(np.frombuffer(memoryview(matrix), np.int32).tolist())


def colour_of(frame: VideoFrame) -> Colour:
    """A picture's marks; RGB gets those of the planes it is turned into."""
    if frame.format.is_rgb or frame.format.has_palette:
        return Colour(FULL, 1, frame.color_primaries, frame.color_trc)
    full = frame.format.name.startswith("yuvj")
    return Colour(FULL if full else frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)


def format_of(frame: VideoFrame) -> PictureFormat:
    """The planes nearest to a picture's own layout."""
    colour = colour_of(frame)
    bits: Literal[8, 10] = 10 if max(component.bits for component in frame.format.components) > 8 else 8
    return PictureFormat(frame.width, frame.height, bits, _chroma(frame.format), matrix_of(colour, frame.height), colour.range == FULL)


def _chroma(layout: VideoFormat) -> Chroma:
    if layout.is_rgb or layout.has_palette:
        return "444"
    if _is_grey(layout):
        return "420"
    if layout.chroma_width(8) == 8:
        return "444"
    return "422" if layout.chroma_height(8) == 8 else "420"


def pixel_format(form: PictureFormat) -> str:
    """libav's name of a layout."""
    return f"yuv{form.chroma}p" + ("10le" if form.bits == 10 else "")


def picture_of(frame: VideoFrame, pts: int, form: PictureFormat, converter: VideoReformatter) -> Picture:
    """A picture's planes.

    Raises:
        ClipError: UNSUPPORTED where libswscale does not know the layout.
    """
    if _is_grey(frame.format):
        grey = "gray10le" if form.bits == 10 else "gray"
        luma = _array(_converted(frame, grey, form, converter).planes[0], form)
        blank = np.full(form.chroma_shape, 1 << (form.bits - 1), luma.dtype)
        return Picture((luma, blank, blank), pts)
    y, u, v = (_array(plane, form) for plane in _converted(frame, pixel_format(form), form, converter).planes[:3])
    return Picture((y, u, v), pts)


def _is_grey(layout: VideoFormat) -> bool:
    return sum(not component.is_alpha for component in layout.components) == 1 and not layout.has_palette


def _converted(frame: VideoFrame, wanted: str, form: PictureFormat, converter: VideoReformatter) -> VideoFrame:
    if frame.format.name in (wanted, wanted.replace("yuv", "yuvj")):
        return frame
    own = ColorRange.JPEG if form.full_range else ColorRange.MPEG
    is_rgb = frame.format.is_rgb or frame.format.has_palette
    colours: dict[str, Any] = {"dst_colorspace": Colorspace.ITU709} if is_rgb else {"src_color_range": own}
    try:
        return converter.reformat(frame, format=wanted, interpolation=_SWSCALE, threads=1, dst_color_range=own, **colours)
    except (FFmpegError, ValueError) as error:
        message = f"its pictures, {frame.format.name}, cannot be turned into {wanted}; convert it, for example to H.264 in yuv420p"
        raise ClipError(FailureKind.UNSUPPORTED, message) from error


def _array(plane: VideoPlane, form: PictureFormat) -> np.ndarray:
    return np.ascontiguousarray(_view(plane, form))


def _view(plane: VideoPlane, form: PictureFormat) -> np.ndarray:
    """[height, width] in libav's own memory."""
    dtype = np.dtype(np.uint16 if form.bits == 10 else np.uint8)
    rows = np.frombuffer(memoryview(plane), dtype).reshape(plane.height, -1)
    return rows[:: -1 if plane.line_size < 0 else 1, : plane.width]


def frame_of(picture: Picture, form: PictureFormat, colour: Colour, target: str, converter: VideoReformatter) -> VideoFrame:
    """libav's picture of some planes, in the layout `target`."""
    frame = VideoFrame(form.width, form.height, pixel_format(form))
    frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = colour.range, colour.matrix, colour.primaries, colour.transfer
    for plane, values in zip(frame.planes, picture.planes, strict=True):
        _view(plane, form)[:] = values
    if target != pixel_format(form):
        frame = _converted(frame, target, replace(form, full_range=colour.range == FULL), converter)
    frame.pts = picture.pts
    return frame
