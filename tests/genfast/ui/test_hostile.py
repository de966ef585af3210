"""Requests of whoever is not the page: each is refused in a line, none reads or writes a file, none stops the page."""

import json
import socket
import struct
import time
import zlib
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.genfast.ui.conftest import Served, served

Make = Callable[[Served, str], bytes]  # the bytes of a request, given the id of a picture that is there
UNKNOWN = "0123456789abcdef"


def raw(server: Served, request: bytes, seconds: float = 20) -> bytes:
    """What the page answers to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        try:
            connection.sendall(request)
        except OSError:  # refused before all was sent
            pass
        answer = b""
        try:
            while part := connection.recv(2**16):
                answer += part
        except ConnectionError:
            pass
        return answer


def request(
    server: Served,
    path: str,
    body: bytes | None = None,
    *,
    method: str = "",
    token: str | None = None,
    **headers: object,
) -> bytes:
    """A request below the token; the names of headers have _ for -, and None leaves one away."""
    token = server.token if token is None else token
    fields = {"Host": f"127.0.0.1:{server.port}", "Connection": "close"}
    if body is not None:
        fields["Content_Length"] = len(body)
    fields |= headers
    lines = [f"{method or ('GET' if body is None else 'POST')} {'/' + token if token else ''}{path} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def get(path: str, **how: object) -> Make:
    return lambda server, id: request(server, path.replace("ID", id), **how)


def post(path: str, body: bytes, **how: object) -> Make:
    return lambda server, id: request(server, path.replace("ID", id), body, **how)


def draw(**values: object) -> Make:
    return post("/draw", json.dumps({"model": "squares", "values": values}).encode())


def fill(mask: bytes, picture: str | None = None, **values: object) -> Make:
    def make(server: Served, id: str) -> bytes:
        order = {"model": "squares", "values": values, "picture": picture or id, "mask": b64encode(mask).decode()}
        return request(server, "/repaint", json.dumps(order).encode())

    return make


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that claims a size, with chunks of any content."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    whole = [struct.pack(">I", len(x)) + name + x + struct.pack(">I", zlib.crc32(name + x)) for name, x in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def encoded(image: Image.Image, format: str = "PNG", **how: object) -> bytes:
    image.save(file := BytesIO(), format, **how)
    return file.getvalue()


TEXT_BOMB = png(4, 4, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)))
MOVING = encoded(Image.new("L", (9, 9)), "GIF", save_all=True, append_images=[Image.new("L", (9, 9), 255)])
NOISE = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
DEEP = encoded(Image.fromarray(np.zeros((9, 9), np.int32)), "TIFF")

HOSTILE: dict[str, tuple[Make, int | bytes]] = {
    # who asks
    "no token": (get("/", token=""), 403),
    "the token of another": (get("/", token="x" * 32), 403),
    "the token, cut": (lambda server, id: request(server, "/", token=server.token[:-1]), 403),
    "the token, and more": (lambda server, id: request(server, "/models", token=server.token + "x"), 403),
    "the token, in other letters": (lambda server, id: request(server, "/", token=server.token.swapcase()), 403),
    "the token as a query": (lambda server, id: request(server, f"/?token={server.token}", token=""), 403),
    "a token beyond ASCII": (get("/", token="%E4%00"), 403),
    "another host": (get("/models", Host="evil.example"), 421),
    "a host that is made to lead here": (get("/models", Host="127.0.0.1.evil.example"), 421),
    "the name of a user before the host": (get("/models", Host="evil.example@127.0.0.1"), 421),
    "an address of the network": (get("/models", Host="10.0.0.1"), 421),
    "no host": (get("/models", Host=None), 400),
    "two hosts": (lambda server, id: request(server, "/models").replace(b"Connection", b"Host: b\r\nConnection"), 400),
    "a host that is none": (get("/models", Host="[::1"), 421),
    "a form of another site": (post("/draw", b"{}", Origin="https://evil.example"), 403),
    "a page without an origin": (post("/draw", b"{}", Origin="null"), 403),
    "another program of this machine": (post("/draw", b"{}", Origin="http://127.0.0.1:1"), 403),
    "a picture on another site": (get("/models", Sec_Fetch_Site="cross-site"), 403),
    # paths
    "a way out": (get("/../../../etc/passwd"), 404),
    "a way out, encoded": (get("/%2e%2e/%2e%2e/%2e%2e/etc/passwd"), 404),
    "a way out of the pictures": (get("/pictures/..%2f..%2f..%2fetc%2fpasswd"), 404),
    "a way out by backslashes": (get("/pictures/..%5c..%5cserver.py"), 404),
    "an absolute path": (get("//etc/passwd"), 404),
    "a path as a picture": (get("/pictures/%2fetc%2fpasswd"), 404),
    "the server's own code": (get("/server.py"), 404),
    "a path with a zero": (get("/pictures/%00"), 404),
    "the address of a file": (lambda server, id: b"GET file:///etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 403),
    "a picture that is not there": (get(f"/pictures/{UNKNOWN}"), 404),
    "a small one of it": (get(f"/pictures/{UNKNOWN}/shown"), 404),
    "a mask for it": (post(f"/pictures/{UNKNOWN}/mask", b"x"), 404),
    "another method": (get("/models", method="DELETE"), 405),
    "a method that nobody knows": (get("/models", method="BREW"), 405),
    "sending to what is read": (post("/models", b"{}"), 405),
    "reading what is sent to": (get("/draw"), 405),
    # bodies
    "a length beyond all bounds": (post("/pictures", b"x", Content_Length=10**12), 413),
    "a length below zero": (post("/pictures", b"x", Content_Length=-1), 400),
    "a length that is none": (post("/pictures", b"x", Content_Length="x"), 400),
    "more than it may be, in chunks": (
        post(
            "/pictures",
            None or b"4200000\r\n" + bytes(0x4200000) + b"\r\n0\r\n\r\n",
            Transfer_Encoding="chunked",
            Content_Length=None,
        ),
        413,
    ),
    "no picture": (post("/pictures", b""), 422),
    "a page": (post("/pictures?name=a.png", b"<html><script>alert(1)</script>"), b"is no image"),
    "a drawing with code": (post("/pictures?name=a.svg", b"<svg onload='alert(1)'/>"), b"is no image"),
    "PostScript": (post("/pictures?name=a.png", b"%!PS\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run"), b"is no image"),
    "a name that is a path": (post("/pictures?name=/etc/passwd", b"x"), b"/etc/passwd is no image"),
    "a name that breaks headers": (post("/pictures?name=a%0d%0aSet-Cookie:x", b"x"), 422),
    "3.6 gigapixels": (post("/pictures?name=a.png", png(60_000, 60_000)), 422),
    "64 megapixels": (post("/pictures?name=a.png", png(8000, 8000)), b"the page takes 50 million"),
    "a text that unfolds": (post("/pictures?name=a.png", TEXT_BOMB), 422),
    "half a picture": (post("/pictures?name=a.png", encoded(Image.fromarray(NOISE))[:400]), 422),
    "a picture that moves": (post("/pictures?name=a.gif", MOVING), b"2 frames"),
    "a picture of 32 bits": (post("/pictures?name=a.tif", DEEP), b"convert it to RGB of 8 bits"),
    "a picture as a mask": (
        post("/pictures/ID/mask?name=m.png", encoded(Image.fromarray(NOISE))),
        b"is a picture, and no mask",
    ),
    "a mask of another shape": (post("/pictures/ID/mask", encoded(Image.new("L", (8, 60)))), b"does not fit"),
    # orders
    "no JSON": (post("/draw", b"n=4"), 422),
    "JSON that ends early": (post("/draw", b'{"model": "squares"'), 422),
    "a list": (post("/draw", b"[]"), 422),
    "a deep list": (post("/draw", b"[" * 100_000), 422),
    "bytes that are no text": (post("/draw", b'{"model": "\xff"}'), 422),
    "a model that is not there": (post("/draw", b'{"model": "nothing"}'), b"there is no model"),
    "a model by its path": (post("/draw", b'{"model": "../../etc"}'), b"there is no model"),
    "a field more": (post("/draw", b'{"model": "squares", "out": "/tmp/x"}'), b"Extra inputs"),
    "an option of files": (draw(out="/tmp/x"), b"takes no 'out'"),
    "too many values": (draw(**{f"v{i}": 0 for i in range(99)}), 422),
    "none": (draw(n=0), b"n must lie in 1 .. 64, not 0"),
    "a negative number": (draw(n=-4), 422),
    "a thousand million": (draw(n=10**9), 422),
    "half a picture more": (draw(n=1.5), b"n is a whole number"),
    "true": (draw(n=True), 422),
    "a number as text": (draw(n="4"), b"n is a whole number"),
    "nothing": (draw(n=None), 422),
    "a list of numbers": (draw(n=[4]), 422),
    "no number": (post("/draw", b'{"model": "squares", "values": {"temperature": NaN}}'), 422),
    "infinity": (post("/draw", b'{"model": "squares", "values": {"temperature": 1e999}}'), 422),
    "a seed beyond 64 bits": (draw(seed=2**70), 422),
    "a seed below zero": (draw(seed=-1), 422),
    "a class that is not there": (draw(**{"class": "black"}), b"class is one of"),
    "steps without end": (draw(steps=10**7), 422),
    "a sampler that is not there": (draw(sampler="os.system"), 422),
    "a hole in nothing": (fill(encoded(Image.new("L", (60, 60))), UNKNOWN), 404),
    "a hole that grows without end": (fill(encoded(Image.new("L", (60, 60))), grow=10**6), 422),
    "a mask that is no base64": (
        lambda server, id: request(
            server, "/repaint", f'{{"model": "squares", "picture": "{id}", "mask": "%"}}'.encode()
        ),
        b"the mask is no base64",
    ),
    "a mask that is no picture": (fill(b"no picture"), b"photo-mask.png is no image"),
    "a mask of another size": (fill(encoded(Image.new("L", (8, 60)))), b"does not fit"),
    # what is no request
    "noise": (lambda server, id: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "an endless header": (get("/models", X="x" * 200_000), 400),
    "an endless address": (get("/models?" + "x" * 200_000), 400),
    "another protocol": (
        get("/models", Connection="Upgrade, close", Upgrade="websocket", Sec_WebSocket_Version=13),
        200,
    ),
    "two ways to tell the length": (post("/pictures", b"0\r\n\r\n", Transfer_Encoding="chunked"), 422),
}


OPENING = ("a mask that is no picture", "a mask that is no base64", "a mask of another size")


@pytest.fixture(scope="module")
def picture(page_server: Served) -> str:
    """The id of a picture that is there."""
    answer = raw(page_server, request(page_server, "/pictures?name=../photo.png", encoded(Image.fromarray(NOISE))))
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert found == {"id": found["id"], "name": "photo.png", "width": 60, "height": 60}
    # Whatever Python imports late, it has now, and the model is there.
    for make in HOSTILE["a mask that is no picture"][0], HOSTILE["a picture as a mask"][0], draw(n=1):
        assert b" 200 " in raw(page_server, make(page_server, found["id"])) or make is not draw
    for way in "a picture of 32 bits", "a picture that moves", "64 megapixels", "half a picture", "PostScript":
        raw(page_server, HOSTILE[way][0](page_server, found["id"]))
    return str(found["id"])


@pytest.mark.parametrize("way", HOSTILE)
def test_a_hostile_request(page_server: Served, picture: str, way: str) -> None:
    make, expected = HOSTILE[way]
    files, opened = page_server.files(), page_server.opened.read_text(errors="replace")
    answer = raw(page_server, make(page_server, picture))
    head, _, body = answer.partition(b"\r\n\r\n")
    if isinstance(expected, int):
        assert head.startswith(f"HTTP/1.1 {expected} ".encode()), answer[:500]
    else:
        assert expected in body and head.startswith((b"HTTP/1.1 422", b"HTTP/1.1 200")), answer[:500]
    assert b"root:" not in answer and b"Traceback" not in answer and b"Set-Cookie" not in head
    assert b"this should not happen" not in answer
    if way != "another protocol" and not head.startswith(b"HTTP/1.1 400"):
        assert len(body.splitlines()) <= 20 and len(body) < 2000
    # A mask is laid on the picture that is there, which is read for it; the rest opens nothing.
    own = (
        {str(path) for path in files if path.name == picture}
        if way.startswith("a mask that is no pic") or "another s" in way
        else set()
    )
    new = page_server.opened.read_text(errors="replace").removeprefix(opened).splitlines()
    assert not [path for path in new if path not in own and not path.endswith((".py", ".pyc", ".so"))]
    assert page_server.files() == files
    assert page_server.process.poll() is None
    well = raw(page_server, request(page_server, "/models"))
    assert well.startswith(b"HTTP/1.1 200 ") and b'"squares"' in well


def test_there_are_many() -> None:
    assert len(HOSTILE) >= 30


def test_slow_and_idle_ones_keep_nobody_waiting(page_server: Served, picture: str) -> None:
    slow = [socket.create_connection(("127.0.0.1", page_server.port)) for _ in range(60)]
    for number, connection in enumerate(slow):
        half = request(page_server, "/pictures", b"x" * 10, Content_Length=1000)
        connection.sendall(half if number % 2 else half[: number + 1])
    began = time.perf_counter()
    assert raw(page_server, request(page_server, "/models")).startswith(b"HTTP/1.1 200 ")
    assert time.perf_counter() - began < 2
    for connection in slow:
        connection.close()
    assert raw(page_server, request(page_server, "/models")).startswith(b"HTTP/1.1 200 ")


def test_answers_say_what_browsers_may_do(page_server: Served) -> None:
    for way in request(page_server, "/"), request(page_server, "/nothing"), request(page_server, "/", token=""):
        head = raw(page_server, way).partition(b"\r\n\r\n")[0].decode().lower()
        for line in (
            "content-security-policy: default-src 'none'; script-src 'self'",
            "frame-ancestors 'none'",
            "referrer-policy: no-referrer",
            "x-content-type-options: nosniff",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ):
            assert line in head
        assert "access-control" not in head and "cookie" not in head and "server:" not in head


def test_a_page_for_all_warns_and_takes_its_own_names(tmp_path: Path, tiny_bundle: Path) -> None:
    with served(tmp_path, "--host", "0.0.0.0", "--model", tiny_bundle) as server:
        assert raw(server, request(server, "/models", Host="192.168.1.7:80")).startswith(b"HTTP/1.1 200 ")
        assert raw(server, request(server, "/models", Host=socket.gethostname())).startswith(b"HTTP/1.1 200 ")
        assert raw(server, request(server, "/models", Host="evil.example")).startswith(b"HTTP/1.1 421 ")
        server.process.terminate()
        _, errors = server.process.communicate()
    assert errors == "genfast: whoever reaches this machine and knows the address can use the page\n"
