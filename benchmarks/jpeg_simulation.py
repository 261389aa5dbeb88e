"""Compare the simulated JPEG of the degradations (aesop.data.degradation.jpeg) with a real encoder, in grey levels.

python benchmarks/jpeg_simulation.py

The real encoder is OpenCV's libjpeg, 4:2:0. The images are the four held-out photographs of the demo. "Loss" is the
difference between the original and the output of each encoder.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

import aesop
from aesop.data.degradation.jpeg import jpeg
from aesop.images.listing import list_images
from aesop.images.tensors import to_tensor

QUALITIES = (30, 50, 70, 80, 90, 95)
PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"


def encoded(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode and decode an image with libjpeg: (H, W, 3) uint8 RGB."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    _, data = cv2.imencode(".jpg", image[..., ::-1], options)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]


def to_ycc(rgb: np.ndarray) -> np.ndarray:
    """Convert RGB (H, W, 3) in [0, 255] to the Y, Cb, Cr of JPEG without offset."""
    y = rgb @ [0.299, 0.587, 0.114]
    return np.stack([y, (rgb[..., 2] - y) * 0.564, (rgb[..., 0] - y) * 0.713], -1)


def main() -> None:
    images = [image.read_uint8() for image in list_images(PHOTOS)]
    print("| quality | RGB, mean | RGB, max | Y, mean | Cb and Cr, mean | loss, RGB mean | loss, simulated |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for quality in QUALITIES:
        rgb, luma, chroma, loss, simulated_loss = [], [], [], [], []
        for image in images:
            real = encoded(image, quality).astype(np.float64)
            simulated = 255 * jpeg(to_tensor(image)[None], quality)[0].permute(1, 2, 0).double().numpy()
            rgb.append(np.abs(simulated - real))
            ycc = np.abs(to_ycc(simulated) - to_ycc(real))
            luma.append(ycc[..., 0])
            chroma.append(ycc[..., 1:])
            loss.append(np.abs(real - image))
            simulated_loss.append(np.abs(simulated - image))
        means = [np.mean([part.mean() for part in parts]) for parts in (rgb, luma, chroma, loss, simulated_loss)]
        largest = max(part.max() for part in rgb)
        print(f"| {quality} | {means[0]:.2f} | {largest:.0f} | {' | '.join(f'{mean:.2f}' for mean in means[1:])} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
