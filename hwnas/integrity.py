"""Checksums inside journals, checkpoints and TOML files: damage is noticed when a file is read.

A line of a journal ends in the field ``check``, the hash of the line without it. A checkpoint has
the note ``sha256``, the hash of the whole file with zeros in the hash's place. Lines and
checkpoints without a hash, of other programs, are accepted. A TOML file ends in a comment with its
hash.
"""

from __future__ import annotations

import re
from hashlib import sha256

import msgspec

CHECK = re.compile(rb',"check":"([0-9a-f]{8})"\}$')
DIGEST = "sha256"
"""Name of the note that holds a checkpoint's hash."""
COMMENT = re.compile(rb"# check ([0-9a-f]{8})\n\Z")
NO_DIGEST = "0" * 64
PLACE = re.compile(rb'"sha256":"(.{64})', re.DOTALL)


def seal_line(line: bytes) -> bytes:
    """Add the hash to the JSON of an object with at least one field; other lines are unchanged."""
    if not line.endswith(b"}") or line == b"{}":
        return line
    return line[:-1] + b',"check":"%s"}' % _short_hash(line)


def is_intact_line(line: bytes) -> bool:
    """Return whether a line has the content that it was sealed with."""
    match = CHECK.search(line)
    return match is None or match[1] == _short_hash(line[: match.start()] + b"}")


def seal_toml(content: bytes) -> bytes:
    """Add the hash as a comment at the end."""
    return content + b"# check %s\n" % _short_hash(content)


def is_sealed_toml(content: bytes) -> bool:
    """Return whether a TOML file has the content that it was sealed with; false without a hash."""
    match = COMMENT.search(content)
    return match is not None and match[1] == _short_hash(content[: match.start()])


def seal_checkpoint(content: bytes) -> bytes:
    """Add the hash to a safetensors file; its notes are sorted, so that equal content is equal."""
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, object] = msgspec.json.decode(content[8:start])
    notes = msgspec.convert(header.pop("__metadata__", {}), dict[str, str]) | {DIGEST: NO_DIGEST}
    encoded = msgspec.json.encode({"__metadata__": dict(sorted(notes.items())), **header})
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8 bytes
    sealed = len(encoded).to_bytes(8, "little") + encoded + content[start:]
    place = _digest_place(sealed)
    assert place is not None
    return sealed[: place[0]] + sha256(sealed).hexdigest().encode() + sealed[place[1] :]


def is_intact_checkpoint(content: bytes) -> bool:
    """Return whether a safetensors file has the content that it was sealed with; false if it is cut
    off."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 + size or content[8:9] != b"{":
        return False
    place = _digest_place(content)
    if place is None:
        return True
    hasher = sha256(memoryview(content)[: place[0]])
    hasher.update(NO_DIGEST.encode())
    hasher.update(memoryview(content)[place[1] :])
    return hasher.hexdigest().encode() == content[slice(*place)]


def _digest_place(content: bytes) -> tuple[int, int] | None:
    """Return begin and end of the hash in a safetensors file."""
    match = PLACE.search(content, 8, 8 + int.from_bytes(content[:8], "little"))
    return None if match is None else match.span(1)


def _short_hash(line: bytes) -> bytes:
    return sha256(line).hexdigest()[:8].encode()
