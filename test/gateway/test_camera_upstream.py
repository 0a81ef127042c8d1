"""HTTP to a camera on real sockets, with a clock that jumps where nothing happens: silence, resets, endless answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from klipper_router.gateway.cameras import upstream
from klipper_router.gateway.cameras.address import CameraUrl
from klipper_router.gateway.cameras.errors import CameraError
from klipper_router.gateway.cameras.mjpeg import Frame
from klipper_router.gateway.cameras.registry import PrinterCameras, moonraker_webcams
from klipper_router.gateway.cameras.site import CameraSite
from klipper_router.gateway.cameras.webcams import MAX_WEBCAMS
from klipper_router.gateway.http import HttpError, HttpRequest
from klipper_router.gateway.settings import CameraSection, KlippyOptions
from klipper_router.gateway.values import Upstream
from test.gateway.rig import Behave, Toy, Wire
from test.gateway.test_camera_passing import reset
from test.gateway.test_cameras import webcam
from test.gateway.toy_camera import DIALECTS, USTREAMER, ToyCamera, jpeg, page

Ask = Callable[[CameraUrl], Awaitable[object]]


@pytest.fixture
def jumping_clock() -> MockClock:
    """Jumps only when the sockets have been quiet for a moment: what is under way in the kernel is no silence."""
    return MockClock(autojump_threshold=0.05)


async def hold(wire: Wire) -> None:
    """Say nothing, for as long as the other side waits."""
    while await wire.stream.receive_some(65536):
        pass


def saying(answer: bytes, then: Behave | None = None) -> Behave:
    async def behave(wire: Wire) -> None:
        await wire.head()
        await wire.send(answer)
        if then is not None:
            await then(wire)

    return behave


async def reset_now(wire: Wire) -> None:
    reset(wire)


async def pull(url: CameraUrl) -> None:
    await upstream.pull(url, lambda frame: None)


async def problem(behave: Behave, ask: Ask) -> str:
    """What is told of a camera that behaves like this, without its address."""
    async with Toy(behave).running() as toy:
        url = CameraUrl.of(f"http://127.0.0.1:{toy.port}/")
        with pytest.raises(CameraError) as caught:
            await ask(url)
        await toy.until(lambda: toy.open == 0)  # the connection is closed in every case
    return str(caught.value).removeprefix(str(url)).lstrip(" :")


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=x\r\n"


async def flood(wire: Wire) -> None:
    while True:
        await wire.send(b"x" * 1024 * 1024)


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (saying(CHUNKED + b"zz\r\n"), "the size of a chunk is malformed"),
        (saying(page(jpeg(1))[:-3]), "closed within its answer"),
        (saying(ENDLESS, flood), f"answers with more than {upstream.MAX_PICTURE_BYTES} bytes"),
        (saying(page(b"GIF89a", b"image/gif")), "answers with 'image/gif', which is no JPEG"),
        (saying(STREAM + b"\r\n--x\r\n"), "ended its stream before the first picture"),
        (saying(STREAM + b"\r\n--x\r\nContent-Length: 9000000\r\n\r\n"), "a frame of 9000000 bytes, over the limit"),
        (saying(page(jpeg(1))[:-3], reset_now), "closed the connection: "),
        (saying(b"HTTP/1.1 200", reset_now), "closed the connection: "),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000), "answers with what is no HTTP response"),
    ],
)
async def test_who_asks_for_a_picture_is_told_what_is_wrong(behave: Behave, why: str) -> None:
    assert (await problem(behave, upstream.picture)).startswith(why)


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (saying(STREAM + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "the size of a chunk is malformed"),
        (saying(STREAM + b"\r\n--x\r\n", reset_now), "closed the connection: "),
        (saying(STREAM + b"Transfer-Encoding: chunked\r\n\r\n", reset_now), "closed the connection: "),
    ],
)
async def test_who_watches_is_told_what_is_wrong(behave: Behave, why: str) -> None:
    assert (await problem(behave, pull)).startswith(why)


async def test_a_picture_without_a_length_ends_with_its_connection() -> None:
    async with Toy(saying(ENDLESS + jpeg("whole"))).running() as toy:
        picture = await upstream.picture(CameraUrl.of(f"http://127.0.0.1:{toy.port}/"))
        assert picture.jpeg == jpeg("whole")


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"])
async def test_a_frame_that_comes_with_the_head_is_shown_and_a_stream_may_end(end: bytes) -> None:
    dialect = DIALECTS["esp32, chunked"]
    content = dialect.head + dialect.part(jpeg(1)) + dialect.part(jpeg(2)) + end
    frames: list[Frame] = []
    async with Toy(saying(content, hold if end else None)).running() as toy:
        await upstream.pull(CameraUrl.of(f"http://127.0.0.1:{toy.port}/"), frames.append)
        await toy.until(lambda: toy.open == 0)
    assert [frame.jpeg for frame in frames] == [jpeg(1), jpeg(2)]


# -- silence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behave", "ask", "why", "after_s"),
    [
        (hold, pull, "does not answer", upstream.ANSWER_S),
        (saying(USTREAMER.head, hold), pull, "sent nothing for 30 s", upstream.SILENT_S),
        (saying(USTREAMER.head, hold), upstream.picture, "gives no picture within 10 s", upstream.ANSWER_S),
    ],
)
async def test_a_camera_that_says_nothing_counts_as_lost(
    jumping_clock: MockClock, behave: Behave, ask: Ask, why: str, after_s: float
) -> None:
    began = trio.current_time()
    assert await problem(behave, ask) == why
    assert after_s <= trio.current_time() - began < after_s + 1


async def test_a_camera_that_sends_a_frame_now_and_then_is_not_lost(jumping_clock: MockClock) -> None:
    async def seldom(wire: Wire) -> None:
        for number in range(4):
            await trio.sleep(upstream.SILENT_S - 1)
            await wire.send(USTREAMER.part(jpeg(number)))

    frames: list[Frame] = []
    async with Toy(saying(USTREAMER.head, seldom)).running() as toy:
        await upstream.pull(CameraUrl.of(f"http://127.0.0.1:{toy.port}/"), frames.append)
    assert [frame.jpeg for frame in frames] == [jpeg(number) for number in range(4)]


@pytest.mark.parametrize("what", ["stream", "snapshot"])
async def test_a_viewer_waits_for_the_first_picture_for_some_seconds_only(jumping_clock: MockClock, what: str) -> None:
    async with Toy(saying(USTREAMER.head, hold)).running() as toy, trio.open_nursery() as nursery:
        section = {"main nozzle": CameraSection(url=f"http://127.0.0.1:{toy.port}/video")}
        site = CameraSite(nursery)
        site.configure({"main": KlippyOptions()}, section)
        began = trio.current_time()
        with pytest.raises(HttpError) as caught:
            await site.handle(HttpRequest("GET", f"/cameras/nozzle/{what}", printer="main"))
        assert caught.value.status in (502, 504)
        assert 10 <= trio.current_time() - began <= 12.1
        await toy.until(lambda: toy.open == 0)
        nursery.cancel_scope.cancel()


# -- Moonraker's list ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (saying(page(b"", status=b"401 Unauthorized")), "wants a login: put this host into its trusted_clients"),
        (saying(page(b"", status=b"500 Internal Server Error")), "answers with 500 Internal Server Error"),
        (saying(page(b'{"result": {"webcams": 5}}')), "answers with what is no list of webcams"),
        (saying(page(b"<html>")), "answers with what is no list of webcams"),
        (saying(page(b"[" * 100_000)), "answers with what is no list of webcams"),
        (hold, "does not answer"),
    ],
)
async def test_why_moonraker_gives_no_webcams_is_told_with_the_404(
    jumping_clock: MockClock, behave: Behave, why: str
) -> None:
    async with Toy(behave).running() as toy, trio.open_nursery() as nursery:
        moonraker = Upstream("127.0.0.1", toy.port)
        with pytest.raises(CameraError, match=why):
            await moonraker_webcams(moonraker)
        cameras = PrinterCameras("main", nursery, moonraker)
        assert await cameras.find("nozzle") is None
        assert why in str(cameras.problem)
        assert await cameras.find("nozzle") is None
        assert len(toy.wires) == 2  # it is not asked again at once


async def test_a_webcam_that_moonraker_learns_of_later_is_found_and_the_trouble_forgotten(
    jumping_clock: MockClock,
) -> None:
    answers = [page(b"", status=b"503 Service Unavailable"), page(b'{"result": {"webcams": []}}')]

    async def answer(wire: Wire) -> None:
        await wire.head()
        await wire.send(answers.pop(0))

    async with Toy(answer).running() as toy, trio.open_nursery() as nursery:
        cameras = PrinterCameras("main", nursery, Upstream("127.0.0.1", toy.port))
        assert await cameras.find("nozzle") is None
        assert "answers with 503" in str(cameras.problem)
        await trio.sleep(6)
        assert await cameras.find("nozzle") is None
        assert (str(cameras.problem), answers) == ("None", [])


# -- which cameras there are -------------------------------------------------------------------------------------------


async def test_a_configured_camera_whose_address_is_none_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        cameras = PrinterCameras("main", nursery, None)
        cameras.configure({"bad": CameraSection(url="rtsp://x"), "good": CameraSection(url="http://127.0.0.1/")})
        assert [spec.name for spec in cameras.specs()] == ["good"]
        assert "camera bad is left out: 'rtsp://x' is no camera's address" in caplog.text


async def test_the_path_of_nginx_and_the_webcam_that_moonraker_has_there_are_one_camera() -> None:
    async with trio.open_nursery() as nursery:
        cameras = PrinterCameras("main", nursery, Upstream("127.0.0.1", 7125))
        cameras.learn([webcam("nozzle", "/webcam2/?action=stream")], True)
        assert cameras.nginx("webcam2") is await cameras.find("nozzle")
        other = cameras.nginx("webcam")
        assert other is not await cameras.find("nozzle")
        cameras.learn([], True)
        assert cameras.nginx("webcam") is other  # it is there whatever Moonraker has


async def test_of_two_cameras_with_one_name_in_addresses_the_configured_one_is_there_and_stays() -> None:
    async with ToyCamera().running() as toy, trio.open_nursery() as nursery:
        assert isinstance(toy, ToyCamera)
        cameras = PrinterCameras("main", nursery, Upstream("127.0.0.1", 7125))
        cameras.configure({"bed left": CameraSection(url=f"{toy.url}/")})
        shown = cameras.learn([webcam("bed-left", "/webcam/?action=stream")], True)
        camera = await cameras.find("bed-left")
        assert camera is not None
        assert (camera.spec.name, list(shown)) == ("bed left", ["bed left"])
        with camera.feed.watch() as viewer:
            nursery.start_soon(toy.give, jpeg("bed"))
            assert (await viewer.first()).jpeg == jpeg("bed")
            cameras.learn([webcam("bed-left", "/webcam/?action=stream")], True)
            nursery.start_soon(toy.give, jpeg("again"))
            assert (await viewer.next()).jpeg == jpeg("again")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("gone", [True, False])
async def test_a_webcam_that_is_gone_or_elsewhere_ends_its_viewers(gone: bool) -> None:
    async with ToyCamera().running() as toy, trio.open_nursery() as nursery:
        assert isinstance(toy, ToyCamera)
        cameras = PrinterCameras("main", nursery, Upstream("127.0.0.1", 7125))
        cameras.learn([webcam("nozzle", f"{toy.url}/a")], True)
        camera = await cameras.find("nozzle")
        assert camera is not None
        with camera.feed.watch() as viewer:
            nursery.start_soon(toy.give, jpeg("one"))
            await viewer.first()
            cameras.learn([] if gone else [webcam("nozzle", f"{toy.url}/b")], True)
            with pytest.raises(CameraError, match="removed"):
                await viewer.next()
        await toy.until(lambda: toy.open == 0)
        nursery.cancel_scope.cancel()


async def test_webcams_beyond_the_limit_are_not_kept() -> None:
    async with trio.open_nursery() as nursery:
        cameras = PrinterCameras("main", nursery, Upstream("127.0.0.1", 7125))
        for number in range(MAX_WEBCAMS + 3):
            cameras.learn([webcam(f"cam{number}", "/webcam/?action=stream")], False)
        assert len(cameras.specs()) == MAX_WEBCAMS
        shown = cameras.learn([webcam("cam5", "/webcam2/?action=stream")], False)  # one that is known may change
        assert shown["cam5"].stream_url == "/webcam2/?action=stream"
