"""Writes the fixture of `tests/curate/clarity.rs`: OpenCV's gray and Laplacian.

Usage: python tests/reference/clarity.py
"""

import json
from pathlib import Path

import cv2
import numpy as np

FIXTURES = Path(__file__).parent.parent / "fixtures"
SIZES = [[1, 1], [1, 7], [9, 1], [2, 2], [3, 5], [64, 48], [131, 77], [2100, 33]]


def picture(width, height):
    """RGB from whole numbers, as the test draws it."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = x * x + 3 * y, 7 * y * x + 5 * x, (x * y) // 3 + 11 * y + 40
    return (np.stack([red, green, blue], -1) % 256).astype(np.uint8)


def case(width, height):
    gray = cv2.cvtColor(picture(width, height), cv2.COLOR_RGB2GRAY)
    return {
        "size": [width, height],
        "gray": int(gray.astype(int).sum()),
        # Tells pixels that changed places.
        "checksum": int((gray.astype(int).ravel() * (np.arange(gray.size) % 251)).sum()),
        "laplacian": float(cv2.Laplacian(gray, cv2.CV_64F).var()),
    }


cases = {"opencv": cv2.__version__, "cases": [case(*size) for size in SIZES]}
(FIXTURES / "clarity.json").write_text(json.dumps(cases, indent=1) + "\n")
