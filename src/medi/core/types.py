"""Types that all rooms share."""

import numpy as np
from jaxtyping import UInt8

Images = UInt8[np.ndarray, "n h w 3"]  # RGB pixels as they are stored
