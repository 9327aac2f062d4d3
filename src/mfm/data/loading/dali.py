"""Decoding with NVIDIA DALI: the same requests, order, crops and flips as with Pillow.

JPEGs are decoded by DALI, and only the part that the crop needs; other formats, the JPEGs whose
colours DALI and Pillow could read differently (CMYK, YCCK) and those to be turned by Pillow. A
pipeline is fed by hand and holds nothing that outlives a batch, so a run resumes at any step.

Without a GPU, each of the loader's workers has a pipeline that decodes; torch resizes, because its
antialiased resize of bytes took a fifth of the time of DALI's on the CPU and is closer to Pillow's
(benchmarks/README.md). With a GPU the workers read files, and one pipeline in the training process
decodes and resizes on the GPU; with RandAugment, which works on the host, images stay there.
"""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.dlpack import from_dlpack

from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import Batch, Batches, ByRequest, Geometry, Request, make_batch
from mfm.data.loading.decoding import Decoder, check_size, name, read
from mfm.data.loading.loader import Loader
from mfm.data.pictures.opening import orientation_of
from mfm.errors import UserError, one_line
from mfm.numerics.draws import Ints

try:
    from nvidia.dali import Pipeline, fn, types
    from nvidia.dali.plugin.pytorch import feed_ndarray
except ImportError as missing:
    raise UserError(
        f"loader: dali needs NVIDIA DALI ({one_line(missing)}); run 'pip install "
        "nvidia-dali-cuda130', or set loader: torchvision"
    ) from None

# A pipeline is part of a cycle of references, so the garbage collector ends it, whenever that runs.
# In a forked loader worker it would wait for ever for threads that live in the parent alone: what
# was inherited is the parent's to collect.
os.register_at_fork(after_in_child=gc.freeze)

_AHEAD = 2  # batches that a GPU works on while one is trained on


def create_loader(
    batches: Batches, *, workers: int, device: torch.device, timeout_minutes: float
) -> Loader:
    """A loader that gives what `batches` asks for, decoded by DALI."""
    if device.type == "cuda" and not batches.augments:
        return PipelineLoader(
            batches, workers=workers, device=device, timeout_minutes=timeout_minutes
        )
    return Loader(
        DaliBatches(batches), workers=workers, device=device, timeout_minutes=timeout_minutes
    )


@dataclass(frozen=True)
class Encoded:
    """The files of a micro-batch, or what Pillow made of them, for DALI to decode."""

    content: Tensor  # uint8 [bytes], one file after the other
    starts: Ints  # [n + 1]
    boxes: npt.NDArray[np.int32]  # [n, 4]: left, top, width, height in the file's image
    geometry: Geometry
    positions: Ints  # [n]

    def __len__(self) -> int:
        return len(self.positions)

    def files(self) -> list[npt.NDArray[np.uint8]]:
        """Each file's bytes, without a copy."""
        return np.split(self.content.numpy(), self.starts[1:-1])


class EncodedBatches(ByRequest[Encoded]):
    """Reads files; decodes those of which DALI would make something else than Pillow."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._decode = Decoder(batches.images)

    def batch(self, request: Request) -> Encoded:
        """The requested images' files."""
        _, positions = request
        images, geometry = self._batches.images, self._batches.geometry(request)
        boxes = geometry.boxes.astype(np.int32)
        boxes[:, 2:] -= boxes[:, :2]
        files, turns = [], images.reading.exif == "apply"
        for i, position in enumerate(positions.tolist()):
            content = read(images, position)
            size = plain_jpeg_size(content)
            if size is None or (turns and orientation_of(content) != 1):
                (image,) = self._decode(position, content)
                cropped = image.crop(geometry.boxes[i].tolist())
                content = b"P6 %d %d 255\n" % cropped.size + cropped.convert("RGB").tobytes()
                boxes[i, :2] = 0
            else:
                check_size(images, position, size)
            files.append(np.frombuffer(content, np.uint8))
        starts = np.cumsum([0, *(len(content) for content in files)])
        return Encoded(torch.from_numpy(np.concatenate(files)), starts, boxes, geometry, positions)


class DaliBatches(ByRequest[Batch]):
    """Micro-batches, decoded by DALI on the CPU and resized by torch."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._encoded = EncodedBatches(batches)
        # Made in the worker that uses it: threads don't survive a fork.
        self._pipeline: _Pipeline | None = None

    def batch(self, request: Request) -> Batch:
        """The requested images: [n, 3, size, size]."""
        encoded = self._encoded.batch(request)
        geometry, size = encoded.geometry, encoded.geometry.size
        if self._pipeline is None or len(encoded) > self._pipeline.capacity:
            self._pipeline = _Pipeline(len(encoded), threads=1, device=torch.device("cpu"))
        try:
            self._pipeline.feed(encoded)
            decoded = self._pipeline.outputs()
        except RuntimeError as error:
            self._pipeline = None  # DALI's pipelines don't survive an error
            raise _unreadable(self._batches.images, encoded, error) from None
        pixels = torch.empty((len(encoded), size, size, 3), dtype=torch.uint8)
        for i, ((width, height), (left, top), flip) in enumerate(
            zip(
                geometry.resized.tolist(),
                geometry.corners.tolist(),
                geometry.flip.tolist(),
                strict=True,
            )
        ):
            image = F.interpolate(
                from_dlpack(decoded[i])[None].permute(0, 3, 1, 2),
                (height, width),
                mode=self._batches.interpolation,
                antialias=True,
            )[..., top : top + size, left : left + size]
            pixels[i] = (image.flip(-1) if flip else image)[0].permute(1, 2, 0)
        self._batches.augment(request, pixels.numpy())
        return make_batch(pixels.numpy(), self._batches.images, request[1])


class PipelineLoader(Loader):
    """Batches decoded and resized by one pipeline in this process, on `device`."""

    def __init__(
        self,
        batches: Batches,
        *,
        workers: int,
        device: torch.device,
        timeout_minutes: float = 0.0,
    ) -> None:
        super().__init__(
            EncodedBatches(batches),
            workers=workers,
            device=torch.device("cpu"),
            timeout_minutes=timeout_minutes,
        )
        self._batches = batches
        self._threads = max(workers, 1)
        self._device = device
        self._pipeline: _Pipeline | None = None

    def close(self) -> None:
        """End the workers, and the pipeline's threads, which a cycle of references would keep."""
        super().close()
        self._pipeline = None
        gc.collect()

    def read(self, requests: Callable[[], Iterable[Request]]) -> Iterator[Batch]:
        """One pass over the given requests; the pipeline is empty before and after it."""
        ahead: deque[Encoded] = deque()
        try:
            for encoded in self._made(requests):
                if self._pipeline is None or len(encoded) > self._pipeline.capacity:
                    while ahead:
                        yield self._next(ahead)
                    self._pipeline = self._create_pipeline(len(encoded))
                self._pipeline.feed(encoded)
                ahead.append(encoded)
                if len(ahead) > _AHEAD:
                    yield self._next(ahead)
            while ahead:
                yield self._next(ahead)
        finally:
            if ahead:
                # Not read to its end: what is still in the pipeline must not meet the next pass.
                self._pipeline = None

    def _create_pipeline(self, capacity: int) -> _Pipeline:
        return _Pipeline(
            capacity,
            threads=self._threads,
            device=self._device,
            interpolation=self._batches.interpolation,
        )

    def _next(self, ahead: deque[Encoded]) -> Batch:
        encoded = ahead[0]
        size = encoded.geometry.size
        assert self._pipeline is not None
        try:
            decoded = self._pipeline.outputs()
        except RuntimeError as error:
            raise _unreadable(self._batches.images, encoded, error) from None
        pixels = torch.empty((len(encoded), size, size, 3), dtype=torch.uint8, device=self._device)
        cuda = self._device.type == "cuda"
        stream = torch.cuda.current_stream(self._device) if cuda else None
        feed_ndarray(decoded.as_tensor(), pixels, cuda_stream=stream)
        ahead.popleft()
        images, positions = self._batches.images, encoded.positions
        return Batch(
            pixels.permute(0, 3, 1, 2),
            torch.from_numpy(images.labels[positions]),
            torch.from_numpy(np.asarray(positions, np.int64)),
        )


class _Pipeline:
    """A DALI pipeline that decodes crops and, where `interpolation` is given, resizes them.

    Every batch fed comes out once, in order; `capacity` is the largest.
    """

    def __init__(
        self,
        capacity: int,
        *,
        threads: int,
        device: torch.device,
        interpolation: str | None = None,
    ) -> None:
        self.capacity = capacity
        self._resizes = interpolation is not None
        cuda = device.type == "cuda"
        self._pipeline = Pipeline(
            batch_size=capacity,
            num_threads=threads,
            device_id=(device.index or 0) if cuda else None,
            # DALI's first run starts as many as this at once; later ones may be fed ahead anyway.
            prefetch_queue_depth=1,
        )
        with self._pipeline:
            image = fn.decoders.image_slice(
                fn.external_source(name="file", dtype=types.UINT8, ndim=1),
                fn.external_source(name="corner", dtype=types.INT32, ndim=1),
                fn.external_source(name="sides", dtype=types.INT32, ndim=1),
                device="mixed" if cuda else "cpu",
                output_type=types.RGB,
                adjust_orientation=False,
                jpeg_fancy_upsampling=True,
            )
            if interpolation is not None:
                filters = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}
                image = fn.resize(
                    image,
                    # height, width; a negative width flips
                    size=fn.external_source(name="resized", dtype=types.FLOAT, ndim=1),
                    interp_type=filters[interpolation],
                    antialias=True,
                )
                image = fn.slice(
                    image,
                    start=fn.external_source(name="square", dtype=types.INT32, ndim=1),
                    shape=fn.external_source(name="size", dtype=types.INT32, ndim=1),
                    axes=(0, 1),
                )
            self._pipeline.set_outputs(image)
        self._pipeline.build()

    def feed(self, encoded: Encoded) -> None:
        """Start work on a batch."""
        geometry = encoded.geometry
        feed = self._pipeline.feed_input
        feed("file", encoded.files())
        feed("corner", np.ascontiguousarray(encoded.boxes[:, :2]))
        feed("sides", np.ascontiguousarray(encoded.boxes[:, 2:]))
        if self._resizes:
            resized = geometry.resized[:, ::-1].astype(np.float32)
            resized[:, 1] *= np.where(geometry.flip, -1, 1)
            feed("resized", resized)
            feed("square", np.ascontiguousarray(geometry.corners[:, ::-1], np.int32))
            feed("size", np.full((len(encoded), 2), geometry.size, np.int32))
        self._pipeline.schedule_run()

    def outputs(self) -> Any:
        """Images of the batch fed longest ago: a TensorList of uint8 [height, width, 3].

        They are valid until the next call. Raises RuntimeError for an image that can't be decoded.
        """
        return self._pipeline.outputs()[0]


def _unreadable(images: Images, encoded: Encoded, error: RuntimeError) -> UserError:
    """The file that made a batch fail."""
    for i, position in enumerate(encoded.positions.tolist()):
        part = slice(int(encoded.starts[i]), int(encoded.starts[i + 1]))
        one = Encoded(
            encoded.content[part],
            np.array([0, part.stop - part.start]),
            encoded.boxes[i : i + 1],
            encoded.geometry,
            encoded.positions[i : i + 1],
        )
        alone = _Pipeline(1, threads=1, device=torch.device("cpu"))
        try:
            alone.feed(one)
            alone.outputs()
        except RuntimeError:
            return UserError(
                f"DALI can't decode {name(images, position)}; repair or remove it, or set "
                "loader: torchvision"
            )
    return UserError(f"DALI failed, though it can decode each image alone: {one_line(error)}")


# Frames that both libjpegs decode to the same bits: baseline, extended and progressive, Huffman.
_PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_START_OF_SCAN = 0xDA


def plain_jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a whole JPEG with 8 bits and grey, YCbCr or RGB; None for all else.

    A file that doesn't end as a JPEG does may be truncated: Pillow has to say so.
    """
    if not content.startswith(b"\xff\xd8") or not content.endswith(b"\xff\xd9"):
        return None
    at = 2
    while at + 10 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _PLAIN_FRAMES:
            bits, components = content[at + 4], content[at + 9]
            height = int.from_bytes(content[at + 5 : at + 7])
            width = int.from_bytes(content[at + 7 : at + 9])
            return (width, height) if bits == 8 and components in (1, 3) and height else None
        if marker in _OTHER_FRAMES or marker == _START_OF_SCAN:
            return None
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return None
