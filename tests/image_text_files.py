"""Small tars and folders of pictures with texts, and all pairs of a data module."""

import io
import tarfile

SPLITS = ("train", "val", "test")
PICTURE = b"\x89PNG not decoded here"
NOT_STRICT = [  # JSON that Python's own parser takes, or fails on with another error
    ('{"caption": "x", "caption": "y"}', "'caption' is there twice"),
    ('{"caption": "\\ud83d"}', "'caption' holds \\ud83d, half a character"),
    ('{"caption": ' + "[" * 100_000, "nested too deep"),
    ('{"caption": ' + "1" * 5000 + "}", "too many digits"),
]


def tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            data = data if isinstance(data, bytes) else data.encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def pairs(count, name=""):
    """Members of a good tar; the picture holds its own name."""
    for i in range(count):
        yield f"{i:03}.jpg", f"picture {name}{i:03}"
        yield f"{i:03}.txt", f"caption {name}{i:03}\n"


def pictures(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
    return folder


def everything(data):
    return {split: data.records(split) for split in SPLITS}
