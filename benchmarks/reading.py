"""Reading archives of the official sizes, with made-up contents: time and peak memory, against decompressing alone."""

import gzip
import io
import multiprocessing
import tarfile
import tempfile
import time
import wave
import zlib
from pathlib import Path

import numpy as np

from benchmarks import peak
from imix import plugins
from imix.datasets.spoken import COMMANDS, UNKNOWN
from imix.sources import save

BLOCK = 1 << 20
CLIPS, HELD_OUT = 64_721, 6_800  # of Speech Commands v0.01; about so many in either list


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put one file into an archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def make_speech_commands(path: Path, rng: np.random.Generator) -> None:
    """One second of noise per clip."""
    names = [f"./{word}/{k:08x}_nohash_0.wav" for k in range(CLIPS // 20) for word in (*COMMANDS, *UNKNOWN)][:CLIPS]
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        add(tar, "./validation_list.txt", "\n".join(name[2:] for name in names[:HELD_OUT]).encode())
        add(tar, "./testing_list.txt", "\n".join(name[2:] for name in names[HELD_OUT : 2 * HELD_OUT]).encode())
        for name in [*names, *(f"./_background_noise_/{k}.wav" for k in range(6))]:
            samples = (rng.standard_normal(16_000 * (60 if "noise_" in name else 1)) * 1000).astype("<i2")
            content = io.BytesIO()
            with wave.open(content, "wb") as file:
                file.setparams((1, 2, 16_000, 0, "NONE", "not compressed"))
                file.writeframes(samples.tobytes())
            add(tar, name, content.getvalue())


def make_cifar10(path: Path, rng: np.random.Generator) -> None:
    """Random bytes in six batches of 10,000."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
            records = rng.integers(256, size=(10_000, 3073), dtype=np.uint8)
            records[:, 0] = np.arange(10_000) % 10
            add(tar, f"cifar-10-batches-bin/{name}.bin", records.tobytes())


def make_covtype(path: Path, rng: np.random.Generator) -> None:
    """581,012 rows of ten numbers, 44 flags and a class."""
    rows = np.concatenate(
        [rng.integers(4000, size=(581_012, 10)), np.eye(44, dtype=np.int64)[rng.integers(44, size=581_012)]], axis=1
    )
    rows = np.concatenate([rows, np.arange(581_012)[:, None] % 7 + 1], axis=1)
    with gzip.open(path, "wt", compresslevel=1) as file:
        np.savetxt(file, rows, fmt="%d", delimiter=",")


def archive(name: str) -> str:
    """Return the file name of a source's archive."""
    return plugins.find("datasets", name).ARCHIVE.file


def read(name: str, folder: Path) -> tuple[float, float]:
    """Read and save as the preprocess stage does: seconds, GB."""
    started = time.perf_counter()
    everything = {"train": None, "validation": 0.1, "test": None, "seed": 0}
    extra = {"covtype": {"standardise": "train"}, "speech_commands": {"silence": 0.1, "validation": None}}
    module = plugins.find("datasets", name)
    rows = module.Rows.model_validate(everything | extra.get(name, {}))
    splits = module.read(module.Source(name=name, checksum=None), rows, folder)
    save(splits, folder / "tensors", module.KIND, module.ORIGIN, {})
    return time.perf_counter() - started, peak() / 1e3


def decompress(name: str, folder: Path) -> tuple[float, float]:
    """Run the archive through zlib and drop the result: seconds, GB."""
    started = time.perf_counter()
    unzip = zlib.decompressobj(31)
    with (folder / archive(name)).open("rb") as file:
        while block := file.read(BLOCK):
            unzip.decompress(block)
    return time.perf_counter() - started, peak() / 1e3


def main(rounds: int = 3) -> None:
    """Both in turn, each in a process of its own."""
    makers = {"cifar10": make_cifar10, "covtype": make_covtype, "speech_commands": make_speech_commands}
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            make(folder / archive(name), np.random.default_rng(0))
            size = (folder / archive(name)).stat().st_size / 1e9
            found: dict[str, list[tuple[float, float]]] = {"read": [], "decompress": []}
            for _ in range(rounds):
                for function in (read, decompress):
                    with multiprocessing.get_context("spawn").Pool(1) as pool:
                        found[function.__name__].append(pool.apply(function, (name, folder)))
            ratios = sorted(ours[0] / theirs[0] for ours, theirs in zip(*found.values(), strict=True))
            print(
                f"{name} ({size:.2f} GB): {ratios[rounds // 2]:.2f} times as long as decompressing "
                f"(n = {rounds}, {ratios[0]:.2f} to "
                f"{ratios[-1]:.2f}); {sorted(found['read'])[rounds // 2][0]:.1f} s, "
                f"at most {max(gb for _, gb in found['read']):.2f} GB",
                flush=True,
            )


if __name__ == "__main__":
    main()
