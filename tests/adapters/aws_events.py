"""Event streams of AWS, as their servers write them."""

import json
import struct
import zlib


def aws_event(name, payload):
    """One message of AWS's event streams: lengths, headers, payload, and checksums."""
    headers = b""
    for key, value in {":event-type": name, ":content-type": "application/json", ":message-type": "event"}.items():
        headers += bytes([len(key)]) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))
