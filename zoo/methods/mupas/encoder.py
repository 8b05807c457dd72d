"""From scenes to examples: who learns which token with which weight, and the trees of silences.

A token's weight makes one weighted cross-entropy the loss of the paper: with n_i learned tokens of
role i in a window and R roles that speak in it, each weighs 1 / (R n_i), so a window weighs 1. With
one trained role that is 1 / n_i: the mean over a batch is one of means, not of all its tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from zoo.encoding import NO_HEAD, Example, extended, join
from zoo.errors import InputError
from zoo.methods.mupas.windows import SceneWindows, Window, pair_view, protagonist
from zoo.prompts.truncation import first_kept
from zoo.records import Scene
from zoo.sample_preview import preview
from zoo.trees import Node, Tree, collate_trees

UTTERANCE, SPEAKER = 0, 1  # the heads: both are the language head

Strategy = Literal["speaker_as_token", "speak_or_silence"]
Objective = Literal["role_mean", "token_mean", "single_role", "pairwise"]
WORDS_ALONE: tuple[Objective, ...] = ("single_role", "pairwise")  # without L_spk
Key = tuple[str, int, str]
"""What a learned node of a tree is: `speaker`, `end` or `words`, its turn, and who."""


@dataclass(frozen=True, slots=True)
class SceneExample(Example):
    """A window as a sequence. L_spk is a sum over a header's tokens, so a window counts once."""

    def head_weights(self) -> dict[int, float]:
        """Return what each head's loss is divided by: the weights of words; 1 for headers."""
        totals = Example.head_weights(self)
        return totals | ({SPEAKER: 1.0} if SPEAKER in totals else {})


@dataclass(frozen=True, slots=True)
class SceneTree(Tree):
    """A window as a tree, in which silences weigh as much as words: see `SceneEncoder.tree`."""

    def head_weights(self) -> dict[int, float]:
        """Return what each head's loss is divided by: the weight of words, for silences too."""
        words = Tree.head_weights(self)[UTTERANCE]
        return {UTTERANCE: words, SPEAKER: words}


@dataclass
class SceneEncoder(SceneWindows):
    """Encoder of scenes: a window becomes a sequence (S1), or a tree with silences (S2).

    Attributes:
        strategy: S1 or S2.
        objective: Whose words are learned, with which weights.
        headers_apart: Headers are not learned with the words, but by a head of their own, L_spk,
            or not at all by objectives of words alone.
    """

    strategy: Strategy = field(default="speaker_as_token", kw_only=True)
    objective: Objective = field(default="role_mean", kw_only=True)
    headers_apart: bool = field(default=True, kw_only=True)

    @property
    def in_trees(self) -> bool:
        """Whether examples are trees."""
        return self.strategy == "speak_or_silence"

    def __call__(self, scene: Scene) -> list[Any]:
        """Return the examples of a scene.

        Raises:
            InputError: Nobody says anything, or two people have the same header.
            TooLongError: A turn does not fit.
        """
        check_begun(scene)
        windows = self.windows(scene)
        if self.objective == "pairwise":
            return [example for window in windows for example in self.pair_examples(window)]
        if self.objective == "single_role":
            name = protagonist(scene)
            windows = [w for w in windows if any(turn.name == name for turn in w.turns)]
        if self.in_trees:
            return [self.tree(window)[0] for window in windows]
        return [self.sequence(window) for window in windows]

    # -- weights -------------------------------------------------------------------------------

    def word_weights(self, window: Window) -> dict[str, float]:
        """Return the weight of each learned token of a person; those who learn nothing lack."""
        with_headers = not (self.headers_apart or self.in_trees)
        counts = dict(window.counts(headers=with_headers))
        if self.objective == "single_role":
            trained = protagonist(window.scene)
            counts = {name: count for name, count in counts.items() if name == trained}
        if self.objective == "token_mean":
            return dict.fromkeys(counts, 1.0)
        return {name: 1 / (len(counts) * count) for name, count in counts.items()}

    def mean_word(self, window: Window) -> float:
        """Return the weight of a token of words, as a mean over those of a window."""
        weights, counts = self.word_weights(window), window.counts(headers=False)
        return sum(weights[n] * counts[n] for n in counts) / sum(counts.values())

    # -- S1: one stream ------------------------------------------------------------------------

    def sequence(self, window: Window) -> SceneExample:
        """Return a window in one stream: headers and words, each learned once."""
        weights = self.word_weights(window)
        pieces: list[tuple[list[int], int, float]] = [(window.prefix, NO_HEAD, 0.0)]
        for turn in window.turns:
            words = self._words(turn.name, weights)
            pieces += [(turn.header, *self._header(window, words)), (turn.words, *words)]
        if window.ends:
            words = self._words(window.turns[-1].name, weights)
            pieces.append(([self.stop_id], *self._header(window, words)))
        return extended(SceneExample, join(pieces, record=window.scene))

    @staticmethod
    def _words(name: str, weights: dict[str, float]) -> tuple[int, float]:
        return (UTTERANCE, weights[name]) if name in weights else (NO_HEAD, 0.0)

    def _header(self, window: Window, words: tuple[int, float]) -> tuple[int, float]:
        """Return head and weight of a header: of L_spk, or those of the words behind it."""
        if not self.headers_apart:
            return words
        return (NO_HEAD, 0.0) if self.objective in WORDS_ALONE else (SPEAKER, 1 / window.boundaries)

    # -- S2: silences on the prefix tree -------------------------------------------------------

    def tree(self, window: Window, *, scoring: bool = False) -> tuple[Tree, list[Key]]:
        """Return a window as a tree, and what its learned nodes are, in order.

        At each boundary every silent person hangs header and silence off the same prefix; no later
        turn sees them. Silence is the end of the turn where its first word would be. The silences
        of a boundary weigh what a token of words weighs in the mean over the window, as the first
        word of the turn does there; it is shared by those who are silent.

        Args:
            window: The turns.
            scoring: Hang every candidate there instead, the speaker and the end of the scene too:
                silences (S2), or headers (S1).
        """
        everyone = dict.fromkeys(window.headers, 1.0)
        weights = everyone if scoring else self.word_weights(window)
        word = 1.0 if scoring else self.mean_word(window)
        nodes, keys = [Node(window.prefix)], list[Key]()
        trunk = 0
        for t in range(len(window.turns) + (window.ends or scoring)):
            turn = window.turns[t] if t < len(window.turns) else None
            names = [n for n in window.headers if scoring or turn is None or n != turn.name]
            for name in names:
                weight = word / len(names)
                nodes, keys = self._candidate(window, name, trunk, weight, nodes, keys, t)
            if scoring and not self.in_trees:
                nodes.append(Node([self.stop_id], trunk, SPEAKER))
                keys.append(("end", t, ""))
            if turn is not None:
                nodes.append(Node(turn.header, trunk))
                head, weight = self._words(turn.name, weights)
                nodes.append(Node(turn.words, len(nodes) - 1, head, weight))
                keys += [("words", t, turn.name)] * (head != NO_HEAD)
                trunk = len(nodes) - 1
        kind = Tree if scoring else SceneTree
        return kind(tuple(nodes), window.scene), keys

    def _candidate(
        self,
        window: Window,
        name: str,
        trunk: int,
        weight: float,
        nodes: list[Node],
        keys: list[Key],
        turn: int,
    ) -> tuple[list[Node], list[Key]]:
        """Return nodes and keys with a person's leaf: header and silence (S2), or header (S1)."""
        header = window.headers[name]
        if self.in_trees:
            leaf = [Node(header, trunk), Node([self.stop_id], len(nodes), SPEAKER, weight)]
        else:
            leaf = [Node(header, trunk, SPEAKER, weight)]
        return [*nodes, *leaf], [*keys, ("speaker", turn, name)]

    # -- a baseline: two people ----------------------------------------------------------------

    def pair_pieces(self, window: Window, name: str) -> list[tuple[list[int], int, float]]:
        """Return a window as one person sees it: theirs is `assistant`, all others are `user`.

        Turns of a run are lines of their own.
        """
        line_end = self.ids("\n")
        pieces: list[tuple[list[int], int, float]] = [(window.prefix, NO_HEAD, 0.0)]
        for mine, run in pair_view(window.turns, name):
            words = run[0].words[:-1]
            for turn in run[1:]:
                words = [*words, *line_end, *turn.words[:-1]]
            pieces.append((self.opening(mine), NO_HEAD, 0.0))
            pieces.append(([*words, self.stop_id], UTTERANCE if mine else NO_HEAD, 1.0))
        return pieces

    def opening(self, mine: bool) -> list[int]:
        """Return the ids before the words of a run in the view of one person."""
        return self.ids(self.chat.open("assistant" if mine else "user"))

    def pair_examples(self, window: Window) -> list[Example]:
        """Return a sequence for each person who speaks; only their own words are learned."""
        names = dict.fromkeys(turn.name for turn in window.turns)
        return [join(self.pair_pieces(window, n), record=window.scene) for n in names]

    def prompt(self, scene: Scene, room: int) -> list[int]:
        """Return the ids before the first word of a scene's last turn, whose speaker is known.

        Its words have no part in it. Where the scene is too long its oldest turns are left out.

        Args:
            scene: A scene of one turn or more.
            room: Tokens to keep free for the words that are to be found, and for their end.

        Raises:
            InputError: Nobody says anything, or two people have the same header.
            TooLongError: Beside the people the window has no room for them.
        """
        check_begun(scene)
        *said, last = [self.spoken(turn) for turn in scene.turns]
        prefix, pairwise = self.prefix(scene), self.objective == "pairwise"
        headers = [self.opening(t.name == last.name) if pairwise else t.header for t in said]
        asked = self.opening(mine=True) if pairwise else last.header
        sizes = [len(h) + len(t.words) for h, t in zip(headers, said, strict=True)]  # a run: less
        start = first_kept(len(prefix), [*sizes, len(asked) + room], self.max_length)
        window = Window(scene, start, prefix, self.headers(scene), said[start:], ends=False)
        if pairwise:
            pieces = self.pair_pieces(window, last.name)
            return [*(token for ids, _, _ in pieces for token in ids), *asked]
        return [*self.before(window, len(window.turns)), *asked]

    # -- batches -------------------------------------------------------------------------------

    def collate(self, examples: Any, normalizers: dict[int, float]) -> Any:
        """Join examples into a batch of sequences or of trees."""
        if isinstance(examples[0], Tree):
            pad_id = self.tokenizer.pad_token_id
            return collate_trees(examples, normalizers, pad_id=pad_id)
        return super().collate(examples, normalizers)

    def preview(self, example: Any) -> list[str]:
        """Return lines that show an example in colour; of a tree its trunk and words."""
        if not isinstance(example, Tree):
            return super().preview(example)
        path = [len(example.nodes) - 1]
        while (parent := example.nodes[path[-1]].parent) is not None:
            path.append(parent)
        nodes = [example.nodes[i] for i in reversed(path)]
        pieces = [(list(node.ids), node.head, node.weight) for node in nodes]
        return preview(join(pieces, record=example.record), self.tokenizer)


def check_begun(scene: Scene) -> None:
    """Raise `InputError` for a scene in which nobody says anything."""
    if not scene.turns:
        raise InputError(f"{scene.id or 'scene'}: nobody says anything; a scene needs turns")
