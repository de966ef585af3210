"""What a run writes for people to look at: figures and grids of pictures."""

import csv
from pathlib import Path

from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from genfast.files import atomic
from genfast.images import io
from genfast.images.sheets import contact_sheet
from genfast.types import Pixels


class Log:
    """figures.csv (step, name, value), TensorBoard events and grids; a resumed run drops what it will redo."""

    def __init__(self, folder: Path, start: int) -> None:
        """Go on with the log of a run's folder after step `start`."""
        self.folder, self.csv = folder, folder / "figures.csv"
        folder.mkdir(parents=True, exist_ok=True)
        old = []
        if self.csv.exists():
            with self.csv.open() as file:
                old = [row for row in csv.reader(file) if len(row) == 3 and row[0].isdigit() and int(row[0]) <= start]
        rows = [["step", "name", "value"], *old]
        with atomic(self.csv) as file:
            file.write("".join(",".join(row) + "\n" for row in rows).encode())
        self.board = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=start + 1)

    def figures(self, step: int, values: dict[str, float]) -> None:
        """Write figures by name."""
        with self.csv.open("a") as file:
            file.writelines(f"{step},{name},{value:.6g}\n" for name, value in values.items())
        self.board.log_metrics(values, step)
        if values:
            print(f"{step}: " + "  ".join(f"{name} {value:.4g}" for name, value in values.items()), flush=True)

    def grid(self, step: int, pictures: Pixels | None) -> None:
        """Save the first hundred pictures [N, H, W, C] as one sheet."""
        if pictures is not None:
            io.write(self.folder / f"grid-{step:08d}.png", contact_sheet(pictures[:100]))
