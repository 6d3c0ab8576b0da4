"""Where decoding may start: which keyframes forget everything before them.

    I b b P b b P | I b b P        closed: all after the second I stands on it
    I b b P b b I b b P            open: the two b after the second I (shown before it) still lean on the first group

A keyframe flag in a container is a claim; for H.264 the bytes are read, because recovery points that need several frames
(periodic intra refresh) carry the flag too. Knows bit streams and nothing of containers or PyAV.
"""

from collections.abc import Iterator

_INTER_CODECS = frozenset({"hevc", "mpeg4", "mpeg1video", "mpeg2video", "h263", "flv1", "vp8", "vp9", "av1", "theora"})
_INTRA_CODECS = frozenset({"mjpeg", "prores", "ffv1"})
_CLEAN_KEYFRAMES = _INTER_CODECS | _INTRA_CODECS
_H264_IDR, _H264_SEI = 5, 6
_SEI_RECOVERY_POINT = 6


def is_random_access(data: memoryview, codec: str, extradata: bytes | None, *, open_groups: bool) -> bool:
    """Whether the keyframe packet `data` of `codec` stands on its own.

    Args:
        data: uint8 [N], the packet as the container holds it: length-prefixed or with start codes.
        codec: libav's name of the codec.
        extradata: the stream's parameter sets, where the container keeps them.
        open_groups: whether H.264 groups whose first frames shown lean on the group before will do.

    Returns:
        True for an H.264 IDR picture or a recovery point of zero frames with exact match (ITU-T H.264 D.2.8), and for a
        keyframe of any other codec whose keyframes reset the decoder.
    """
    if codec != "h264":
        return codec in _CLEAN_KEYFRAMES
    return any(_is_clean(nal, open_groups) for nal in _nal_units(bytes(data), extradata or b""))


def single_layer(extradata: bytes) -> bool:
    """Whether an HEVC stream is known to have one temporal layer: hvcC (ISO 14496-15 8.3.3.1) tells in byte 21."""
    return len(extradata) > 21 and extradata[0] == 1 and extradata[21] >> 3 & 7 == 1


def _is_clean(nal: bytes, open_groups: bool) -> bool:
    kind = nal[0] & 0x1F
    return kind == _H264_IDR or (open_groups and kind == _H264_SEI and _recovers_at_once(nal))


def _recovers_at_once(sei: bytes) -> bool:
    """recovery_frame_cnt ue(v) == 0 is a single 1 bit; exact_match_flag is the bit after it."""
    at = 1
    while at + 2 < len(sei):
        kind, at = _sei_number(sei, at)
        size, at = _sei_number(sei, at)
        if kind == _SEI_RECOVERY_POINT and at < len(sei):
            return sei[at] & 0xC0 == 0xC0
        at += size
    return False


def _sei_number(sei: bytes, at: int) -> tuple[int, int]:
    value = 0
    while at < len(sei) and sei[at] == 0xFF:
        value, at = value + 255, at + 1
    return (value + sei[at] if at < len(sei) else value), at + 1


def _nal_units(data: bytes, extradata: bytes) -> Iterator[bytes]:
    """NAL units up to the first slice; avcC (ISO 14496-15 5.3.3.1) begins with version 1 and gives the length prefix in byte 4."""
    units = _length_prefixed(data, (extradata[4] & 3) + 1) if len(extradata) > 4 and extradata[0] == 1 else _start_coded(data)
    for nal in units:
        if nal:
            yield nal
            if 1 <= nal[0] & 0x1F <= _H264_IDR:
                return


def _length_prefixed(data: bytes, prefix: int) -> Iterator[bytes]:
    at = 0
    while at + prefix < len(data):
        size = int.from_bytes(data[at : at + prefix], "big")
        yield data[at + prefix : at + prefix + size]
        at += prefix + size


def _start_coded(data: bytes) -> Iterator[bytes]:
    yield from (part for part in data.split(b"\x00\x00\x01")[1:])
