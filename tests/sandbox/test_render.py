"""Clips are real: decodable, the right size and length, moving the way the prompt says."""

import io
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from PIL import Image

from reelsheet.mp4 import Walker  # noqa: F401 - replaced below
