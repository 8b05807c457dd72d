"""Subtitle files in pairs, written for the tests, and the blocks that come of them."""

from datamodules import Subtitles


def srt(*lines, shift=0):
    """Return a subtitle file with a line every two seconds."""
    return "".join(
        f"{i}\n00:00:{2 * i:02d},{shift:03d} --> 00:00:{2 * i + 1:02d},{shift:03d}\n{line}\n\n"
        for i, line in enumerate(lines)
    )


def write(folder, **files):
    """Write files; `a__zh__srt` is `a.zh.srt`, under `train`."""
    (folder / "train").mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / "train" / name.replace("__", ".")
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text, "utf-8")
    return folder


def _train(folder, **options):
    """Return the blocks of a folder that has validation files of its own."""
    (folder / "val").mkdir(exist_ok=True)
    for code in ("zh", "en"):
        (folder / "val" / f"v.{code}").write_text("v\n", "utf-8")
    return Subtitles(str(folder), **options).records("train")
