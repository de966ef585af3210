import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genfast.bundles.manifest import ImageSize
from genfast.inpainting.windows import Window, windows

sides = st.integers(1, 20)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(sides, sides),
    st.sampled_from([0.002, 0.05, 0.5, 1]),
    st.integers(0, 12),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_windows_cover_the_hole_once(
    seed: int, shape: tuple[int, int], density: float, context: int, height: int, width: int
) -> None:
    hole = np.random.default_rng(seed).random(shape) < density
    size = ImageSize(height=height, width=width, channels=3)
    if not hole.any():
        return
    covered = np.zeros(hole.shape, int)
    todo = hole.copy()
    for frame, core in windows(hole, size, context):
        here = np.zeros_like(hole)
        here[core] = todo[core]
        covered += here
        todo &= ~here
        inside = np.zeros_like(hole)
        inside[frame] = True
        assert here.any() and not (here & ~inside).any()
        rows, columns = (part.stop - part.start for part in frame)
        assert rows <= hole.shape[0] and columns <= hole.shape[1]
        assert abs(rows * width - columns * height) <= max(width, height)  # of the model's shape, to a pixel
    assert np.array_equal(covered, hole)


def test_one_window_in_the_middle_of_which_the_hole_is() -> None:
    hole = np.zeros((200, 300), bool)
    hole[100:110, 50:70] = True
    size = ImageSize(height=64, width=64, channels=3)
    ((frame, _),) = windows(hole, size)
    assert frame == (slice(73, 137), slice(28, 92))
    ((frame, _),) = windows(hole, size, context=40)
    assert frame == (slice(55, 155), slice(10, 110))  # 20 pixels and 40 on each side
    assert len(list(windows(~hole, size))) > 20
    ((frame, _),) = windows(hole[90:130, :60], size)
    assert frame == (slice(0, 40), slice(20, 60))  # all there is, seen larger


def test_a_window_shows_what_is_known_and_takes_a_fill_in_its_hole_alone() -> None:
    area = np.random.default_rng(0).integers(0, 65536, (12, 16, 1), np.uint16)
    todo, now = np.zeros((2, 12, 16), bool)
    todo[4:8, 4:12] = now[4:8, 4:8] = True
    window = Window(area, todo, now, todo.astype(np.float32))
    picture, hole = window.seen(ImageSize(height=12, width=16, channels=3))
    assert picture.dtype == np.uint8 and np.array_equal(hole, todo)
    assert np.abs(picture[~todo] - area[~todo] / 257).max() <= 0.5  # grey, of 8 bits
    hidden = area.copy()
    hidden[todo] = 0
    other, _ = Window(hidden, todo, now, todo.astype(np.float32)).seen(ImageSize(height=12, width=16, channels=3))
    assert np.array_equal(picture, other)

    pasted = window.pasted(np.full((12, 16, 3), 99, np.uint8))
    assert pasted.dtype == np.uint16 and np.array_equal(pasted[~now], area[~now])
    assert (pasted != area)[now].mean() > 0.9
    small, hole = window.seen(ImageSize(height=6, width=8, channels=1))
    assert small.shape == (6, 8, 1) and np.array_equal(hole, todo[::2, ::2])
