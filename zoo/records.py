"""Records: what a data module yields. Plain text, no tensors, no model.

A record is one unit of annotated data in the words of its dataset. A method's encoder says which
record types it takes and turns each into token ids (`zoo/encoding.py`). `datamodules` imports this
module (and `zoo.errors`) and nothing else of `zoo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.errors import InputError

SEEKER = "seeker"
SUPPORTER = "supporter"


@dataclass(frozen=True, slots=True)
class Triple:
    """A query with the thought that leads to its answer.

    Attributes:
        query: What the user says.
        thought: What is thought before the answer; empty if the data has none.
        answer: What is said.
        system: System or persona prompt; empty means the prompt's default line.
        kind: Name under which accuracy is reported (`false_belief`, `memory`, ...); may be empty.
        id: Where the record comes from, for example `fb_all_test.txt:9`.
    """

    query: str
    thought: str
    answer: str
    system: str = ""
    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance of a dialogue.

    Attributes:
        speaker: `seeker`, `supporter`, or a role's name in multi-party data.
        text: The utterance.
        strategy: Annotated support strategy of a supporter turn, or dialogue act of any turn in
            data that annotates acts; else empty.
        emotion: Annotated emotion of this turn, else empty.
        feedback: The seeker's rating of the turns before it, 1 to 5, if the file has one.
    """

    speaker: str
    text: str
    strategy: str = ""
    emotion: str = ""
    feedback: int | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation with its annotations.

    Attributes:
        turns: The utterances in order; neighbours of one speaker may follow each other.
        emotion: The seeker's annotated emotion for the whole dialogue.
        problem: The annotated problem type.
        situation: The seeker's own description of the situation.
        id: Where the record comes from, for example `train.txt.gz:17`.
    """

    turns: tuple[Turn, ...]
    emotion: str = ""
    problem: str = ""
    situation: str = ""
    id: str = ""


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
        group: Media and texts of one group match each other, so that they never are each other's
            negatives; empty for the record alone (its `id`).
        id: Where the record comes from, for example `photos.tar:0007`.
    """

    media: Media
    texts: tuple[str, ...]
    modality: str = "image"
    question: str = ""
    group: str = ""
    id: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """Class names in levels, coarse to fine.

    Attributes:
        children: Path of names from the top (empty for the top itself) -> names below it, in a
            fixed order. The same name may stand under two parents: a path tells them apart.
    """

    children: dict[tuple[str, ...], tuple[str, ...]]

    @property
    def depth(self) -> int:
        """Number of levels."""
        return 1 + max(len(path) for path in self.children)

    def below(self, path: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names under a path; none if there is no such path."""
        return self.children.get(path, ())


@dataclass(frozen=True, slots=True)
class LabelPath:
    """A text with a class at every level of a taxonomy.

    Attributes:
        text: What is classified.
        labels: Its class at each level, coarse to fine.
        taxonomy: All classes; one object for all records of a dataset.
        id: Where the record comes from, for example `Data.txt:17`.
    """

    text: str
    labels: tuple[str, ...]
    taxonomy: Taxonomy
    id: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with options.

    Attributes:
        question: The question.
        options: The possible answers, in the order in which they are shown.
        gold: Index of the right option.
        rationale: Why it is right; empty if the data has none.
        kind: Subject or category under which accuracy is reported; may be empty.
        id: Where the record comes from.
    """

    question: str
    options: tuple[str, ...]
    gold: int
    rationale: str = ""
    kind: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Conditioned:
    """A prompt with its response, under a condition told in words.

    Attributes:
        condition: Task description, domain, persona, style or sentiment; empty for none.
        prompt: What the user says.
        response: What is answered.
        system: Instruction in the system turn, for example the answer options.
        task: Name under which scores are reported; may be empty.
        id: Where the record comes from.
    """

    condition: str
    prompt: str
    response: str
    system: str = ""
    task: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text to learn as it stands.

    Attributes:
        text: The text.
        doubt: `(start, stop, level)` of spans that somebody doubts, in characters, with a level
            from 0 (certain) to 1 (false); empty for none.
        kind: Name under which scores are reported; may be empty.
        language: Language of the text; may be empty.
        id: Where the record comes from.
    """

    text: str
    doubt: tuple[tuple[int, int, float], ...] = ()
    kind: str = ""
    language: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What a query may find.

    Attributes:
        id: Name, unique in its corpus.
        text: The text.
        title: Title; may be empty.
    """

    id: str
    text: str
    title: str = ""

    @property
    def content(self) -> str:
        """Title and text on a line each, or the text alone: what a ranker reads."""
        return f"{self.title}\n{self.text}".strip()


@dataclass(frozen=True)
class Corpus:
    """Documents by their ids, in a fixed order; one object for all records of a dataset."""

    documents: dict[str, Document]

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.documents)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A query with the documents that answer it.

    Attributes:
        query: The query, or the conversation up to what is to be answered.
        corpus: All documents.
        relevant: `(document id, grade)` of each judged document; a grade above 0 is relevant.
        candidates: Ids of the documents to rank; empty for the whole corpus (see `pool`).
        kind: Name under which scores are reported; may be empty.
        id: Where the record comes from.
    """

    query: str
    corpus: Corpus
    relevant: tuple[tuple[str, int], ...]
    candidates: tuple[str, ...] = ()
    kind: str = ""
    id: str = ""

    @property
    def pool(self) -> Sequence[str]:
        """Ids of the documents to rank, in a fixed order."""
        return self.candidates or tuple(self.corpus.documents)


Record = Triple | Dialogue | MediaText | LabelPath | Question | Conditioned | PlainText | Ranking
