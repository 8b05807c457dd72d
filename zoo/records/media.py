"""Pictures and sounds with their texts."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import InputError


@dataclass(frozen=True, slots=True)
class Media:
    """Where an encoded picture or sound lies: a file, a stretch of one (a tar's member), or memory.

    Attributes:
        name: What errors call it, for example `photos.tar: 0007.jpg`.
        path: File that holds it; empty if `data` does.
        offset: First byte in the file.
        size: Number of bytes; None for the rest of the file.
        data: The bytes themselves, if they are in memory.
    """

    name: str
    path: str = ""
    offset: int = 0
    size: int | None = None
    data: bytes = b""

    @property
    def key(self) -> str:
        """A name that no other media has."""
        return f"{self.path}:{self.offset}:{self.name}"

    def read(self) -> bytes:
        """Return the encoded bytes.

        Raises:
            InputError: The file cannot be read, or there are no bytes.
        """
        content = self.data
        if self.path:
            try:
                with open(self.path, "rb") as file:
                    file.seek(self.offset)
                    content = file.read(-1 if self.size is None else self.size)
            except OSError as error:
                raise InputError(f"{self.name}: cannot read {self.path} ({error})") from error
        if not content:
            raise InputError(f"{self.name}: no bytes there")
        return content


@dataclass(frozen=True, slots=True)
class MediaText:
    """A picture or sound with the texts that belong to it.

    Attributes:
        media: The picture or sound.
        texts: Its captions, or the answer to `question`; at least one.
        modality: `image` or `audio`.
        question: Asked about the media, with `texts` as the answer; empty for captions.
        group: Media and captions of one group match each other, so that they never are each
            other's negatives; empty for the record alone (its `id`). Not for questions: what
            matches there is an equal answer.
        id: Where the record comes from, for example `photos.tar:0007`.
    """

    media: Media
    texts: tuple[str, ...]
    modality: str = "image"
    question: str = ""
    group: str = ""
    id: str = ""
