"""The images: data/PART/LABEL/NUMBER.png."""

from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).parent / "data"


def load(part):
    """Return the images of "train" or "test" as an array (n, 32, 32) of 0 to 1, and their labels."""
    files = sorted((DATA / part).glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file), dtype="float32") / 255 for file in files])
    return images, np.array([int(file.parent.name) for file in files])
