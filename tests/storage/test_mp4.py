"""The box walk: whole files pass at any chunking; cut, lying and strange ones are refused by a typed error."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelsheet.storage.mp4 import MOOV_LIMIT_BYTES, BoxWalk, CorruptMp4, Mp4, Mp4Error, NotMp4


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def wide_box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body


FTYP = box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2avc1mp41")
UPRIGHT = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
TURNED = struct.pack(">9I", 0, 0x10000, 0, 0xFFFF0000, 0, 0, 0, 0, 0x40000000)


def video_track(
    *,
    samples: tuple[int, ...] = (40, 60),
    chunk_at: int = 100,
    size: tuple[int, int] = (1920, 1080),
    matrix: bytes = UPRIGHT,
    handler: bytes = b"vide",
    codec: bytes = b"avc1",
    co64: bool = False,
    wide: bool = False,
) -> bytes:
    entry = box(codec, bytes(6), struct.pack(">H", 1), bytes(16), struct.pack(">HH", *size), bytes(50))
    chunks = (
        box(b"co64", struct.pack(">IIQ", 0, 1, chunk_at)) if co64 else box(b"stco", struct.pack(">III", 0, 1, chunk_at))
    )
    sizes = box(b"stsz", struct.pack(f">III{len(samples)}I", 0, 0, len(samples), *samples))
    stbl = box(b"stbl", box(b"stsd", struct.pack(">II", 0, 1), entry), sizes, chunks if samples else b"")
    if wide:
        tkhd = box(b"tkhd", b"\1\0\0\7", bytes(32 + 16), matrix, struct.pack(">II", size[0] << 16, size[1] << 16))
        mdhd = box(b"mdhd", b"\1\0\0\0", bytes(16), struct.pack(">IQ", 600, 3000), bytes(4))
    else:
        tkhd = box(b"tkhd", b"\0\0\0\7", bytes(20 + 16), matrix, struct.pack(">II", size[0] << 16, size[1] << 16))
        mdhd = box(b"mdhd", bytes(12), struct.pack(">II", 600, 3000), bytes(4))
    hdlr = box(b"hdlr", bytes(8), handler, bytes(13))
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, box(b"minf", box(b"vmhd", bytes(12)), stbl)))


def moov(*tracks: bytes, ticks: int = 5000, timescale: int = 1000, more: bytes = b"", wide: bool = False) -> bytes:
    if wide:
        head = box(b"mvhd", b"\1\0\0\0", bytes(16), struct.pack(">IQ", timescale, ticks), bytes(80))
    else:
        head = box(b"mvhd", bytes(12), struct.pack(">II", timescale, ticks), bytes(80))
    return box(b"moov", head, *tracks, more)


MDAT = box(b"mdat", bytes(range(200)))
PLAIN = FTYP + moov(video_track()) + MDAT
INDEX_LAST = FTYP + box(b"free") + MDAT + moov(video_track(co64=True, wide=True), wide=True)
FRAGMENTS = (
    FTYP
    + moov(video_track(samples=()), ticks=0, more=box(b"mvex", box(b"mehd", struct.pack(">II", 0, 4200))))
    + (box(b"moof", bytes(60)) + MDAT) * 3
    + box(b"mfra", bytes(16))
)
OPEN_END = FTYP + moov(video_track()) + struct.pack(">I4s", 0, b"mdat") + bytes(500)


def walk(content: bytes, piece: int = 1 << 16) -> Mp4:
    steps = BoxWalk()
    for at in range(0, len(content), piece):
        steps.feed(content[at : at + piece])
    return steps.finish()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PLAIN, Mp4(5.0, 1920, 1080, "avc1", length_proven=True)),
        (INDEX_LAST, Mp4(5.0, 1920, 1080, "avc1", length_proven=True)),
        (FRAGMENTS, Mp4(4.2, 1920, 1080, "avc1", length_proven=True)),
        (OPEN_END, Mp4(5.0, 1920, 1080, "avc1", length_proven=False)),
        (FTYP + moov(video_track()) + wide_box(b"mdat", bytes(200)), Mp4(5.0, 1920, 1080, "avc1", length_proven=True)),
        (FTYP + moov(video_track(matrix=TURNED)) + MDAT, Mp4(5.0, 1080, 1920, "avc1", length_proven=True)),
        (FTYP + moov(video_track(codec=b"hvc1"), ticks=0) + MDAT, Mp4(5.0, 1920, 1080, "hvc1", length_proven=True)),
        (
            FTYP + moov(video_track(handler=b"soun"), video_track(size=(720, 1280))) + MDAT,
            Mp4(5.0, 720, 1280, "avc1", length_proven=True),
        ),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 4096])
def test_a_complete_file_gives_its_size_duration_and_codec(content, expected, piece):
    assert walk(content, piece) == expected


def test_fragments_without_an_index_at_the_end_prove_no_length():
    assert not walk(FRAGMENTS[: -len(box(b"mfra", bytes(16)))]).length_proven


@given(st.lists(st.integers(0, len(PLAIN)), max_size=40))
def test_any_chunking_gives_the_same_answer(cuts):
    steps, at = BoxWalk(), 0
    for cut in (*sorted(cuts), len(PLAIN)):
        steps.feed(PLAIN[at:cut])
        at = cut
    assert steps.finish() == Mp4(5.0, 1920, 1080, "avc1", length_proven=True)


@pytest.mark.parametrize("content", [PLAIN, INDEX_LAST])
def test_every_truncation_is_refused(content):
    """A connection that ends early without a Content-Length is noticed by nothing else."""
    for length in range(len(content)):
        with pytest.raises(Mp4Error):
            walk(content[:length])


def test_a_file_cut_between_two_boxes_of_pictures_is_refused():
    whole = FTYP + moov(video_track(chunk_at=900)) + MDAT + box(b"mdat", bytes(400))
    assert walk(whole)
    with pytest.raises(CorruptMp4, match="beyond the end"):
        walk(whole[:-408])


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_raise_nothing_but_the_typed_errors(content, piece):
    with pytest.raises(Mp4Error):
        walk(content, piece)


@given(st.binary(max_size=300))
def test_any_index_raises_nothing_but_the_typed_errors(content):
    with pytest.raises(Mp4Error):
        walk(FTYP + box(b"moov", content) + MDAT)


@settings(max_examples=400)
@given(st.sampled_from([PLAIN, INDEX_LAST, FRAGMENTS, OPEN_END]), st.data())
def test_damage_anywhere_never_crashes(content, data):
    """Some flipped bits are pictures, and pass; the others are a typed error."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content) - 5))
        damaged[at : at + 4] = data.draw(
            st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\x7f\xff\xff\xff"])
        )
    try:
        film = walk(bytes(damaged))
    except Mp4Error:
        return
    assert film.width > 0 and film.height > 0  # noqa: PT018 - one statement about one thing


boxes = st.recursive(
    st.tuples(st.sampled_from([b"free", b"stsz", b"stco", b"tkhd", b"stsd", b"mdhd", b"hdlr"]), st.binary(max_size=30)),
    lambda inner: st.tuples(
        st.sampled_from([b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moov", b"edts"]), st.lists(inner, max_size=4)
    ),
    max_leaves=20,
)


def built(tree) -> bytes:
    kind, inner = tree
    return box(kind, inner if isinstance(inner, bytes) else b"".join(built(one) for one in inner))


@given(st.lists(boxes, max_size=5))
def test_any_nesting_raises_nothing_but_the_typed_errors(trees):
    with pytest.raises(Mp4Error):
        walk(FTYP + box(b"moov", *(built(tree) for tree in trees)) + MDAT)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x1aE\xdf\xa3\x9fB\x86\x81" + bytes(50), "WebM"),
        (box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + PLAIN[24:], "QuickTime"),
        (box(b"wide") + MDAT, "QuickTime"),
        (box(b"ftyp", b"avif", bytes(4), b"mif1miaf") + MDAT, "AVIF"),
        (b"GIF89a" + bytes(50), "GIF"),
        (b"RIFF\x10\0\0\0AVI LIST", "AVI"),
        (b"\xff\xd8\xff\xe0" + bytes(20), "JPEG"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b'{"error": "expired"}', "JSON"),
        (b"no such file, sorry", "text"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1000])
def test_a_stranger_is_named(content, what, piece):
    with pytest.raises(NotMp4, match=what) as caught:
        walk(content, piece)
    assert caught.value.is_message == (what in ("web page", "XML", "JSON"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\0\0", "cut after 2 bytes"),
        (FTYP + MDAT, "no index"),
        (FTYP + moov(video_track()), "no pictures in it"),
        (FTYP + moov(video_track(handler=b"soun")) + MDAT, "without a picture track"),
        (FTYP + moov() + MDAT, "without a picture track"),
        (FTYP + moov(video_track(size=(0, 0))) + MDAT, "how large"),
        (FTYP + moov(video_track(samples=())) + MDAT, "no frames"),
        (FTYP + moov(video_track(samples=(10**9,))) + MDAT, "beyond the end"),
        (FTYP + moov(video_track(), timescale=0) + MDAT, "clock"),
        (FTYP + moov(video_track()) * 2 + MDAT, "two indexes"),
        (FTYP + moov(video_track(), more=struct.pack(">I4s", 2**31, b"udta")) + MDAT, "impossible size"),
        (FTYP + moov(video_track(), more=struct.pack(">I4sQ", 1, b"udta", 0)) + MDAT, "impossible size"),
        (FTYP + struct.pack(">I4s", 4, b"mdat") + bytes(100), "no box of a video starts"),
        (FTYP + b"\0\0\0\x20\0\1\2\3" + bytes(24), "no box of a video starts"),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 2**63), "short of the end of its mdat box"),
        (FTYP + struct.pack(">I4sQ", 1, b"mdat", 8), "no box of a video starts"),
        (FTYP + struct.pack(">I4sQ", 1, b"moov", 2**62), "no real one needs"),
        (struct.pack(">I4s", 2**31, b"ftyp"), "no real one needs"),
        (box(b"ftyp", b"isom"), "what kind of file"),
        (FRAGMENTS[: len(FRAGMENTS) // 3] + MDAT, "damaged|cut"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(content, message):
    with pytest.raises(CorruptMp4, match=message):
        walk(content)


def test_a_table_is_never_larger_than_the_bytes_that_came():
    """2**32 - 1 samples in a box of 20 bytes: nothing is allocated for them."""
    lying = PLAIN.replace(struct.pack(">III", 0, 0, 2), struct.pack(">III", 0, 0, 2**32 - 1))
    assert lying != PLAIN
    with pytest.raises(CorruptMp4, match="table is shorter"):
        walk(lying)


def test_an_index_without_an_end_is_held_to_its_limit(monkeypatch):
    monkeypatch.setattr("reelsheet.storage.mp4.MOOV_LIMIT_BYTES", 1000)
    assert MOOV_LIMIT_BYTES > 1000
    steps = BoxWalk()
    steps.feed(FTYP + struct.pack(">I4s", 0, b"moov"))
    with pytest.raises(CorruptMp4, match="no end"):
        steps.feed(bytes(1001))


def test_boxes_without_number_are_refused(monkeypatch):
    monkeypatch.setattr("reelsheet.storage.mp4.BOXES_LIMIT", 100)
    with pytest.raises(CorruptMp4, match="boxes"):
        walk(FTYP + box(b"free") * 101)
    with pytest.raises(CorruptMp4):
        walk(FTYP + box(b"moov", box(b"free") * 101))


def test_a_deep_nest_is_no_trouble():
    nest = b""
    for _ in range(20_000):
        nest = box(b"mdia", nest) if len(nest) < 60_000 else nest
    with pytest.raises(CorruptMp4):
        walk(FTYP + box(b"moov", nest) + MDAT)


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
def test_a_real_encoder_s_files_pass(options, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for _ in range(50):
            container.mux(stream.encode(av.VideoFrame(320, 180, "yuv420p")))
        container.mux(stream.encode())
    content = path.read_bytes()
    film = walk(content)
    assert (film.width, film.height, film.codec, film.length_proven) == (320, 180, "avc1", True)
    if "empty_moov" not in options.get("movflags", ""):
        assert film.duration_s == pytest.approx(2.0, abs=0.1)
        for length in range(1, len(content), 97):
            with pytest.raises(Mp4Error):
                walk(content[:length])
