"""The README's picture of restoration: `python -m tests.bench.restoring.picture` cuts the same corner out of what each contender makes of a frame.

    restore.json (the filters' parameters), Big Buck Bunny  ->  tests/bench/restore.jpg

Of the held-out videos only this one may be shown: (c) Blender Foundation, CC-BY 3.0.
"""

import sys
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from infra.problem import Problem
from models.prediction import ModelError
from tests.bench.restore import RESULTS
from tests.bench.restoring import filters, report
from tests.bench.restoring.clips import EXCERPTS, Clip, halved, noisy, read
from tests.bench.restoring.contenders import NAMES, Contenders
from tests.bench.restoring.judge import BICUBIC, FFDNET, NLMEANS, VIDMILL, WAIFU2X
from tests.bench.restoring.machine import Machine
from tests.bench.restoring.packages import Unavailable
from tests.bench.restoring.vidmill import DENOISER_WEIGHTS, UPSCALER_WEIGHTS

PICTURE = RESULTS.with_suffix(".jpg")
BUNNY = next(excerpt for excerpt in EXCERPTS if excerpt.name == "bigbuckbunny")
SIGMA, FRAMES, FRAME = 25, 16, 12  # the frame shown has others before and after it
DENOISED_AT, UPSCALED_AT = (190, 60), (270, 50)  # left, top of the crops
TILE = (232, 174)  # pixels of a tile; crops are shown enlarged
ZOOM_DENOISED, ZOOM_UPSCALED = 1.5, 2.0
CAPTION, GAP, QUALITY = 22, 6, 88


def main() -> None:
    """Draw and write it."""
    torch.set_num_threads(1)
    clip, contenders = read(BUNNY, FRAMES), Contenders(frozenset(NAMES), DENOISER_WEIGHTS, UPSCALER_WEIGHTS)
    try:
        rows = [row(denoised(clip, contenders), DENOISED_AT, ZOOM_DENOISED), row(upscaled(clip, contenders), UPSCALED_AT, ZOOM_UPSCALED)]
    except (Unavailable, FileNotFoundError, Problem, ModelError) as error:
        sys.exit(f"picture: {error}")
    sheet = np.concatenate([rows[0], np.full((GAP, *rows[0].shape[1:]), 255, np.uint8), rows[1]])
    Image.fromarray(sheet).save(PICTURE, quality=QUALITY, subsampling=0, optimize=True)
    print(f"wrote {PICTURE}, {PICTURE.stat().st_size // 1000} kB")


def denoised(clip: Clip, contenders: Contenders) -> dict[str, np.ndarray]:
    """Caption -> the frame, uint8 [H, W, 3]."""
    worse, machine = noisy(clip, SIGMA), Machine(torch.device("cpu"))
    graph = report.read(RESULTS).tuned[f"sigma {SIGMA}"][NLMEANS]
    networks = contenders.denoisers(ours=machine, theirs=machine)
    return {
        f"noise, sigma {SIGMA}": worse[FRAME],
        "nlmeans, tuned": filters.filtered(worse[FRAME : FRAME + 1], graph)[0],
        "FFDNet, told the sigma": networks[FFDNET](worse[FRAME : FRAME + 1], SIGMA)[0],
        "vidmill, told nothing": networks[VIDMILL](worse, None)[FRAME],
    }


def upscaled(clip: Clip, contenders: Contenders) -> dict[str, np.ndarray]:
    """Caption -> the frame, uint8 [H, W, 3]."""
    small, machine = halved(clip.frames[FRAME : FRAME + 1]), Machine(torch.device("cpu"))
    found = contenders.interpolators() | contenders.upscalers(ours=machine, theirs=machine)
    captions = {BICUBIC: "x2: bicubic", WAIFU2X: "x2: waifu2x", VIDMILL: "x2: vidmill"}
    return {caption: found[name](small)[0] for name, caption in captions.items()} | {"the original": clip.frames[FRAME]}


def row(frames: Mapping[str, np.ndarray], corner: tuple[int, int], zoom: float) -> np.ndarray:
    """The same crop of each frame, side by side, with its caption above."""
    tiles = [tile(caption, frame, corner, zoom) for caption, frame in frames.items()]
    gap = np.full((tiles[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for one in tiles for part in (one, gap)][:-1], axis=1)


def tile(caption: str, frame: np.ndarray, corner: tuple[int, int], zoom: float) -> np.ndarray:
    """One crop, enlarged by repeating pixels, so that nothing is smoothed that the contender did not smooth."""
    left, top = corner
    box = (left, top, left + TILE[0] / zoom, top + TILE[1] / zoom)
    sheet = Image.new("RGB", (TILE[0], TILE[1] + CAPTION), "white")
    sheet.paste(Image.fromarray(frame).resize(TILE, Image.Resampling.NEAREST, box=box), (0, CAPTION))
    ImageDraw.Draw(sheet).text((2, 2), caption, fill="black", font=ImageFont.load_default(14))
    return np.asarray(sheet)


if __name__ == "__main__":
    main()
