"""The least that a relay in Python can do: recv, msgspec decode, encode, send; A to B, and no way back.

No answers, no errors, no queue, no second printer: nothing that parses can cost less.
Usage: bare_relay.py A.sock B.sock [batch]; with "batch", all that one recv brought goes into one send.
"""

from __future__ import annotations

import socket
import sys

import msgspec


class Call(msgspec.Struct):
    remote_method: str
    params: dict[str, str]


class Request(msgspec.Struct):
    id: int
    method: str
    params: dict[str, str]


def main(a_path: str, b_path: str, *, batch: bool) -> None:
    a = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    a.connect(a_path)
    b = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    b.connect(b_path)
    decode = msgspec.json.Decoder(Call).decode
    encode = msgspec.json.Encoder().encode
    id_ = 0
    begun = b""
    while data := a.recv(65536):
        *frames, begun = (begun + data).split(b"\x03")
        requests = []
        for frame in frames:
            call = decode(frame)
            id_ += 1
            request = encode(Request(id_, "gcode/script", {"script": call.params["script"]})) + b"\x03"
            if batch:
                requests.append(request)
            else:
                b.sendall(request)
        if requests:
            b.sendall(b"".join(requests))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], batch="batch" in sys.argv[3:])
