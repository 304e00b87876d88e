"""Image work on the accelerator equals the CPU path: the real kernels run on the CPU, and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation

from engines.errors import EngineUnavailable
from engines.face.align import crop, crop_from_frame, moved
from engines.face.paste import paste
from engines.face.region import covered_on_crop, face_region, fill_colour, masked_planes, planes, small_picture
from engines.gpu.colour import Standard
from engines.gpu.device import KERNELS, CupyDevice, Device
from engines.gpu.images import GpuImages
from engines.gpu.images_numpy import rgb_from_i420, rgb_from_nv12
from engines.marks.invisible import Marker
from engines.marks.label import draw_label
from engines.marks.payload import Payload
from engines.types import Floats, Mask, Occlusion, Rgb
from tests.engines.face.heads import MIDDLE_SKIN, Looks, albedo, landmarks, photograph
from tests.engines.gpu.cuda_on_cpu import CpuDevice, CudaOnCpu

SIZE, SMALL = 128, 64
LEVEL = 2 / 255 + 1e-6  # one of 255 levels between -1 and 1
EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> CudaOnCpu:
    return CudaOnCpu(KERNELS, tmp_path_factory.mktemp("kernels"))


@pytest.fixture(params=["kernels on the CPU", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "cupy":
        try:
            return CupyDevice()
        except EngineUnavailable as error:
            pytest.skip(str(error))
    return CpuDevice(request.getfixturevalue("kernels"))


def levels_apart(a: Rgb | Floats, b: Rgb | Floats) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())


def video_frame(height: int, width: int) -> tuple[Mask, Mask, Mask]:
    rng = np.random.default_rng(3)
    luma = rng.integers(0, 256, (height, width)).astype(np.uint8)
    u, v = (rng.integers(0, 256, (height // 2, width // 2)).astype(np.uint8) for _ in range(2))
    return luma, u, v


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("standard", ["bt601", "bt709"])
def test_video_becomes_the_colours_of_the_cpu_path(device: Device, standard: Standard, full_range: bool) -> None:
    luma, u, v = video_frame(46, 70)  # not a multiple of a block
    images = GpuImages(device, 46, 70, SIZE, SMALL)
    images.take_i420(luma, u, v, standard, full_range)
    assert levels_apart(images.frame(), rgb_from_i420(luma, u, v, standard, full_range)) <= 1
    chroma = np.stack([u, v], axis=-1)
    images.take_nv12(luma, chroma, standard, full_range)
    assert levels_apart(images.frame(), rgb_from_nv12(luma, chroma, standard, full_range)) <= 1


@pytest.mark.parametrize(("standard", "matrix"), [("bt601", 5), ("bt709", 1)])
def test_the_cpu_path_has_the_colours_of_ffmpeg(standard: Standard, matrix: int) -> None:
    luma, u, v = video_frame(48, 64)
    luma = np.clip(luma, 16, 235).astype(np.uint8)
    u, v = (np.asarray(np.kron(plane[::4, ::4], np.ones((4, 4))) // 3 + 85, np.uint8) for plane in (u, v))
    flat = np.concatenate([luma.ravel(), u.ravel(), v.ravel()]).reshape(72, 64)
    theirs = av.VideoFrame.from_ndarray(flat, format="yuv420p").reformat(
        format="rgb24",
        interpolation=EXACT,
        src_colorspace=matrix,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    assert levels_apart(rgb_from_i420(luma, u, v, standard), np.asarray(theirs.to_ndarray(), np.uint8)) <= 1


Scene = tuple[Rgb, Rgb, Floats, Floats, Occlusion | None]


def scene(scale: float, covered: bool) -> Scene:
    """A photographed head, the same with another face on it, landmarks, the crop's transform, what stands before it."""
    points = landmarks(Looks(yaw_deg=20, roll_deg=8))
    frame = photograph(points, albedo(MIDDLE_SKIN))
    rough = np.ascontiguousarray(255 - frame)
    if scale != 1:  # the same head, nearer or farther: the crop is coarser or finer than the frame
        shrink = np.array([[scale, 0, 3.3], [0, scale, -2.1]], np.float32)
        size = round(max(frame.shape[:2]) * scale)
        frame, rough = crop(frame, shrink, size), crop(rough, shrink, size)
        points = moved(points, shrink)
    occlusion = None
    if covered:
        cells = np.zeros((40, 40), np.uint8)
        cells[18:33, 8:22] = 255
        place = crop_from_frame(points, 40)
        occlusion = Occlusion(cells, place, 0.2)
    return frame, rough, points, crop_from_frame(points, SIZE), occlusion


def on_gpu(device: Device, of: Scene, small: int = SMALL) -> GpuImages:
    height, width = of[0].shape[:2]
    images = GpuImages(device, height, width, SIZE, small)
    images.take_rgb(of[0])
    return images


@pytest.mark.parametrize("small", [64, 56])
@pytest.mark.parametrize("covered", [False, True])
@pytest.mark.parametrize("scale", [0.2, 1.0, 2.6])
def test_the_network_reads_what_it_reads_on_the_cpu(device: Device, scale: float, covered: bool, small: int) -> None:
    frame, rough, points, there, occlusion = of = scene(scale, covered)
    images = on_gpu(device, of, small)
    inputs = images.inputs(rough, moved(points, there), there, occlusion, "mean")
    own, theirs = crop(frame, there, SIZE), crop(rough, there, SIZE)
    region = face_region(moved(points, there), SIZE, covered_on_crop(occlusion, there, SIZE))
    filled = masked_planes(own, region.mask_SS, fill_colour(own, region.mask_SS, "mean"))
    got = [device.download(array) for array in (inputs.masked, inputs.proxy, inputs.mask, inputs.attribute)]
    assert levels_apart(got[0], filled) <= LEVEL
    assert levels_apart(got[1], planes(theirs)) <= LEVEL
    assert levels_apart(got[2][0, 0], region.mask_SS) <= 1 / 255
    assert levels_apart(got[3], planes(small_picture(own, small))) <= LEVEL
    assert 0.1 < region.mask_SS.mean() < 0.9
    if covered:
        assert (region.mask_SS < face_region(moved(points, there), SIZE).mask_SS).any()


@pytest.mark.parametrize("label", [False, True])
@pytest.mark.parametrize("scale", [0.2, 1.0, 2.6])
def test_the_face_is_pasted_as_on_the_cpu(device: Device, scale: float, label: bool) -> None:
    frame, rough, points, there, occlusion = of = scene(scale, True)
    images = on_gpu(device, of)
    images.inputs(rough, moved(points, there), there, occlusion, "grey")
    face = np.random.default_rng(5).uniform(-1.3, 1.3, (3, SIZE, SIZE)).astype(np.float32)
    on_device = device.empty(face.shape, "float32")
    device.upload(on_device, face)
    got = images.finish(on_device, label)
    wanted = frame.copy()
    region = face_region(moved(points, there), SIZE, covered_on_crop(occlusion, there, SIZE))
    paste(wanted, face, region.alpha_SS, there)
    assert (wanted != frame).any()
    if label:
        draw_label(wanted)
    assert levels_apart(got, wanted) <= 1


def test_the_mark_is_that_of_the_cpu_to_the_bit(device: Device) -> None:
    """Black and white among it, where it must not wrap round."""
    payload = Payload(0x123456, 326)
    frame = np.random.default_rng(6).choice([0, 1, 90, 254, 255], (130, 202, 3)).astype(np.uint8)
    images = GpuImages(device, 130, 202, SIZE, SMALL)
    images.take_rgb(frame)
    images.mark_with(payload)
    images.inputs(frame, *_anywhere(), None, "grey")
    face = device.empty((3, SIZE, SIZE), "float32")
    device.upload(face, np.zeros((3, SIZE, SIZE), np.float32))
    got = images.finish(face, label=False)
    plain = GpuImages(device, 130, 202, SIZE, SMALL)
    plain.take_rgb(frame)
    plain.inputs(frame, *_anywhere(), None, "grey")
    wanted = plain.finish(face, label=False)
    assert levels_apart(wanted, frame) > 1, "the face"
    Marker(payload).apply(wanted)
    np.testing.assert_array_equal(got, wanted)


def _anywhere() -> tuple[Floats, Floats]:
    _, _, points, there, _ = scene(0.2, False)
    return moved(points, there), there


def test_a_frame_makes_no_memory_and_waits_once(kernels: CudaOnCpu) -> None:
    device = CpuDevice(kernels)
    frame, rough, points, there, occlusion = of = scene(1.0, True)
    images = on_gpu(device, of)
    face = device.empty((3, SIZE, SIZE), "float32")
    face[...] = 0
    made, first = device.made, b""
    for _ in range(3):
        device.waits = 0
        images.take_rgb(frame)
        images.inputs(rough, moved(points, there), there, occlusion, "mean")
        picture = images.finish(face)
        assert device.waits == 1
        first = first or picture.tobytes()
        assert picture.tobytes() == first, "nothing of a frame is left in the next"
    assert device.made == made


def test_every_kernel_is_used(kernels: CudaOnCpu) -> None:
    device = CpuDevice(kernels)
    luma, u, v = video_frame(46, 70)
    GpuImages(device, 46, 70, SIZE, SMALL).take_i420(luma, u, v)
    for small in (64, 56):
        _, rough, points, there, _ = of = scene(0.2, False)
        images = on_gpu(device, of, small)
        images.mark_with(Payload(1, 2))
        images.inputs(rough, moved(points, there), there, None, "grey")
        images.finish(np.zeros((3, SIZE, SIZE), np.float32))
    assert set(device.launches) == kernels.names


def test_the_kernels_compile_for_gpus(tmp_path: Path, nvcc: Callable[[Path, Path], None]) -> None:
    nvcc(KERNELS, tmp_path / "images.ptx")


@pytest.fixture
def nvcc() -> Callable[[Path, Path], None]:
    import shutil
    import subprocess

    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no nvcc here")

    def compile_to_ptx(source: Path, onto: Path) -> None:
        for architecture in ("sm_75", "sm_90"):
            subprocess.run([compiler, f"-arch={architecture}", "-ptx", "-o", str(onto), str(source)], check=True)

    return compile_to_ptx


def test_without_cupy_it_says_what_to_install() -> None:
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(EngineUnavailable, match=r"vividstream\[gpu\]"):
            CupyDevice()
    else:
        pytest.skip("CuPy is here")
