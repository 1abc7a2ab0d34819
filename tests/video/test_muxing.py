"""What a file holds beside its pictures is in the new one, byte for byte and at its time."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

av = pytest.importorskip("av")
from nearest_video import Nearest, enlarge, held  # noqa: E402
from video_files import make_clip  # noqa: E402
from video_reading import remuxed  # noqa: E402

from liif_fast.video import enlarge as enlarging  # noqa: E402
from liif_fast.video import segments  # noqa: E402
from liif_fast.video.kinds import VideoError  # noqa: E402


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT", 7)
    monkeypatch.setattr(enlarging, "SEGMENT", 7)


def chapters(path):
    with av.open(str(path)) as container:
        found = container.chapters()
    return [
        (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"]) for c in found
    ]


def length(path):
    with av.open(str(path)) as container:
        return container.duration / 1e6


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("rate", [25, Fraction(30000, 1001)])
def test_sound_subtitles_and_chapters_are_copied(tmp_path, suffix, rate):
    source = make_clip(tmp_path / f"in{suffix}", 40, rate=rate, audio=True, subtitles=True, chapters=True)
    out = tmp_path / f"out{suffix}"
    enlarge(source, out)
    for kind in ("audio", "subtitles"):
        assert held(out, kind).packets == held(source, kind).packets
        assert held(out, kind).times == held(source, kind).times
    assert held(out).times == held(source).times
    assert chapters(out) == chapters(source)
    assert length(out) == pytest.approx(length(source), abs=1e-3)


def rich(path):
    """Two sounds, fonts, styled words, titles and languages."""
    plain = make_clip(path.with_name("plain.mkv"), 25, audio=True)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0], opaque=True)
        sounds = [out.add_stream_from_template(source.streams.audio[0], opaque=True) for _ in range(2)]
        for stream, language in zip(sounds, ("deu", "fra"), strict=True):
            stream.metadata["language"] = language
        sounds[1].disposition = av.stream.Disposition.comment
        words = out.add_mux_stream("subrip")
        words.metadata["title"] = "for all"
        out.add_attachment("font.ttf", "font/ttf", b"a font")
        out.metadata["title"] = "A film"
        packet = av.Packet(b"words")
        packet.stream, packet.pts, packet.dts, packet.duration = words, 200, 200, 500
        packet.time_base = Fraction(1, 1000)
        for each in source.demux():
            if each.size and each.stream.type == "video":
                each.stream = video
                out.mux(each)
            elif each.size:
                data = bytes(each)
                for stream in sounds:
                    copy = av.Packet(data)
                    copy.pts, copy.dts, copy.duration, copy.time_base = (
                        each.pts,
                        each.dts,
                        each.duration,
                        each.time_base,
                    )
                    copy.stream = stream
                    out.mux(copy)
        out.mux(packet)
    return path


def test_all_streams_with_their_names(tmp_path):
    source, out = rich(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    enlarge(source, out)
    with av.open(str(out)) as container:
        assert container.metadata["title"] == "A film"
        assert [stream.type for stream in container.streams] == ["video", "audio", "audio", "subtitle", "attachment"]
        assert [stream.metadata.get("language") for stream in container.streams.audio] == ["deu", "fra"]
        assert container.streams.audio[1].disposition & av.stream.Disposition.comment
        assert container.streams.subtitles[0].metadata["title"] == "for all"
        font = container.streams[4]
        assert (font.name, font.data) == ("font.ttf", b"a font")


@pytest.mark.parametrize("name", ["a:b.mkv", "http:b.mkv", "%03d.mkv"])
def test_names_that_look_like_addresses(tmp_path, monkeypatch, name):
    make_clip(tmp_path / "in.mkv", audio=True).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    enlarge(name, f"out{name}")
    with av.open(f"file:out{name}") as container:
        assert len(list(container.decode(video=0))) == 12


def test_titles_that_are_not_utf_8(tmp_path):
    source, out, titles = tmp_path / "in.mkv", tmp_path / "out.mkv", (b"A FILM", b"A SOUND", b"A PART")
    with av.open(str(make_clip(tmp_path / "clip.mkv", audio=True))) as clip, av.open(str(source), "w") as made:
        streams = {each.index: made.add_stream_from_template(each, opaque=True) for each in clip.streams}
        made.metadata["title"], streams[1].metadata["title"] = (title.decode() for title in titles[:2])
        made.set_chapters(
            [{"id": 1, "start": 0, "end": 9, "time_base": Fraction(1, 25), "metadata": {"title": titles[2].decode()}}]
        )
        for packet in clip.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    data = source.read_bytes()
    for title in titles:
        data = data.replace(title, b"\xe9" + title[1:])
    source.write_bytes(data)
    enlarge(source, out)
    assert all(b"\xe9" + title[1:] in out.read_bytes() for title in titles)


def test_the_video_that_is_enlarged_is_the_one_that_is_told_of(tmp_path):
    clips = [make_clip(tmp_path / f"{side}.mp4", size=(side, side)) for side in (32, 64)]
    with av.open(str(tmp_path / "in.mkv"), "w") as made:
        opened = [av.open(str(clip)) for clip in clips]
        streams = [made.add_stream_from_template(each.streams.video[0], opaque=True) for each in opened]
        streams[0].metadata["title"], streams[1].metadata["title"] = "small", "large"
        streams[0].disposition, streams[1].disposition = 0, av.stream.Disposition.default
        for pair in zip(*(each.demux() for each in opened), strict=True):
            for packet, stream in zip(pair, streams, strict=True):
                if packet.size:
                    packet.stream = stream
                    made.mux(packet)
    result = enlarge(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert (result.in_size, result.frames) == ((64, 64), 12)
    assert any("stream 0 (video, h264) is left out" in note for note in result.notes)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams[0].metadata["title"] == "large"
        assert container.streams[0].disposition == av.stream.Disposition.default


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"mp4 cannot hold the source's stream 3 \(subtitle, (srt|subrip)\); choose .mkv, or .* by --no-subtitles"),
        ({"subtitles": False}, None),
    ],
)
def test_what_the_container_cannot_hold_is_said_before_the_work(tmp_path, options, words):
    source = rich(tmp_path / "in.mkv")
    if words is None:
        result = enlarge(source, tmp_path / "out.mp4", **options)
        assert sum("is left out: --no-subtitles" in note for note in result.notes) == 2
        assert held(tmp_path / "out.mp4", "audio").packets == held(source, "audio").packets
        return
    with pytest.raises(VideoError, match=words):
        enlarge(source, tmp_path / "out.mp4", Nearest(lambda n: pytest.fail("the work has begun")), **options)
    assert not (tmp_path / "out.mp4").exists()


def test_what_the_container_refuses_of_sound_alone_is_said_before_the_work(tmp_path):
    """MP4 is refused at its end, for samples whose speakers AVI does not tell."""
    source = make_clip(tmp_path / "in.avi", codec="mpeg4", audio=True)
    with pytest.raises(VideoError, match=r"mp4 cannot hold these streams together .*; choose .mkv"):
        enlarge(source, tmp_path / "out.mp4", Nearest(lambda n: pytest.fail("the work has begun")))
    enlarge(source, tmp_path / "out.mkv")
    assert held(tmp_path / "out.mkv", "audio").packets == held(source, "audio").packets


def test_sound_is_left_out_where_that_is_asked_for(tmp_path):
    source = make_clip(tmp_path / "in.mp4", audio=True)
    result = enlarge(source, tmp_path / "out.mp4", audio=False)
    assert any("(audio, aac) is left out: --no-audio" in note for note in result.notes)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_part_of_the_time(tmp_path, suffix):
    source = make_clip(tmp_path / f"in{suffix}", 50, audio=True, subtitles=True, chapters=True)  # 2 s
    out = tmp_path / f"out{suffix}"
    result = enlarge(source, out, start=0.5, end=1.5)
    assert result.frames == 25
    assert held(out).times == pytest.approx([i / 25 for i in range(25)], abs=1e-3)
    sound, whole = held(out, "audio"), held(source, "audio")
    first = 0.52  # the first frame from 0.5 s on
    inside = [(t - first, data) for t, data in zip(whole.times, whole.packets, strict=True) if first <= t < 1.52]
    assert sound.packets == [data for _, data in inside]
    assert sound.times == pytest.approx([t for t, _ in inside], abs=2e-3)
    assert chapters(out) == [
        (0, pytest.approx(0.48, abs=2e-3), "part 1"),
        (pytest.approx(0.48, abs=2e-3), pytest.approx(1.0, abs=2e-3), "part 2"),
    ]
    words = [(t, d) for t, d in zip(*held(out, "subtitles")[:2], strict=True) if d < 0.9]
    assert words[0] == (0, pytest.approx(0.28, abs=2e-3)) or words[-1][0] == pytest.approx(0.48, abs=2e-3)


def test_sound_that_is_longer_than_the_video_goes_to_the_end_that_is_asked_for(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    remuxed(make_clip(tmp_path / "clip.mp4", 50, audio=True), source, lambda packet, index: index < 25)  # of 2 s
    for end in (0.5, 1.5, 9):
        enlarge(source, out, end=end, overwrite=True)
        whole = held(source, "audio")
        until = max(end, held(out).times[-1] + 0.04)
        inside = [data for time, data in zip(whole.times, whole.packets, strict=True) if time < until - 1e-6]
        assert held(out, "audio").packets == inside


def test_times_that_the_container_rounds_are_said(tmp_path):
    source = make_clip(tmp_path / "in.mp4", rate=Fraction(30000, 1001))
    result = enlarge(source, tmp_path / "out.mkv")
    assert any(re.match(r"matroska counts time by 1/1000 s: frames are up to 0\.\d+ ms off", n) for n in result.notes)
    assert held(tmp_path / "out.mkv").times == pytest.approx(held(source).times, abs=5.1e-4)


def test_sound_that_begins_before_the_picture(tmp_path):
    """AAC of MP4 does, and Matroska holds nothing before 0: all is later by as much, which is said."""
    source = make_clip(tmp_path / "in.mp4", 25, audio=True)
    result = enlarge(source, tmp_path / "out.mkv")
    late = held(tmp_path / "out.mkv").times[0]
    assert late == pytest.approx(1024 / 48000, abs=1e-3)
    assert any(f"all is {late:.3f} s later" in note for note in result.notes)
    apart = [held(path, "audio").times[0] - held(path).times[0] for path in (source, tmp_path / "out.mkv")]
    assert apart[0] == pytest.approx(apart[1], abs=1.1e-3)


def test_the_time_of_broadcasts_begins_at_0(tmp_path):
    source = make_clip(tmp_path / "in.ts", times=[5000 + 40 * i for i in range(12)])
    result = enlarge(source, tmp_path / "out.mp4")
    assert held(source).times[0] >= 5
    assert any("its time begins at 0, the source's at 5." in note for note in result.notes)
    assert held(tmp_path / "out.mp4").times == pytest.approx([0.04 * i for i in range(12)])


def test_memory_does_not_grow_with_sound(tmp_path):
    """Sound and pictures lie beside each other in the file, however many parts there are."""
    source, out = make_clip(tmp_path / "in.mp4", 60, audio=True), tmp_path / "out.mp4"
    enlarge(source, out)
    with av.open(str(out)) as container:
        order = [(p.pos, p.stream.type, float(p.dts * p.time_base)) for p in container.demux() if p.size]
    places = {kind: [t for _, k, t in sorted(order) if k == kind] for kind in ("video", "audio")}
    assert all(times == sorted(times) for times in places.values())
    kinds = [kind for _, kind, _ in sorted(order)]
    assert kinds.index("audio") < 10
    assert len(kinds) - kinds[::-1].index("video") > len(kinds) - 60
