"""Worlds that are made and samples that come with the package stay as they are.

Pages, checkpoints and other people's runs rest on them: a seed's world is the same tomorrow, and a
sample is read as it was. Who changes either on purpose writes the new digests here (the failure
shows them) and makes the pages anew that rest on it.
"""

import hashlib
from itertools import islice

import pytest

import datamodules

FIRST = 24  # records of each split
MADE = {
    "FalseBelief()": "2914377fb64a",
    "FalseBelief(seed=1)": "32e4d34a4a7e",
    "FalseBelief(moves=2)": "f7ad243def35",
    "FactWorld('text')": "8203152f2b4b",
    "FactWorld(form='open', world=1)": "1aacf62b1d02",
    "FactWorld(form='choice', num_entities=40, num_values=5)": "11bde5934330",
    "ConditionedChat()": "744d3f9145cf",
    "ConditionedChat(condition='sentiment', wording='raw', "
    "place='query', allow_missing=True)": "3db96b3a7f3d",
    "ConditionedChat(condition='user_profiles', shuffle_conditions=True, "
    "allow_missing=True)": "c7e793c11469",
    "TaskViews()": "173c0cf66941",
    "TaskViews(place='options', shuffle_conditions=True, seed=1)": "287cb120b042",
}
SAMPLES = {
    "AQuA()": "e8ff5c4a3399",
    "BEIR()": "2dd50ce6d5b0",
    "BigToM()": "730a84b337f7",
    "BigToM(questions='action', initial_belief=False)": "3a1ffb165562",
    "CEval()": "96c2a8e0d67c",
    "CLINC150(out_of_scope=True)": "b9ec344e1a09",
    "CMMLU()": "db6217e21cdc",
    "Chats()": "3937ba4509f1",
    "CommonsenseQA()": "e4347fa863c1",
    "Cranfield()": "c34a098be45d",
    "DBpedia()": "735e51bdb8ad",
    "DailyDialog()": "d005e1d0640d",
    "DailyDilemmas()": "fc596905d558",
    "ESConv()": "7cc1f9a68eb8",
    "ESConvStrategies(definitions=True, max_turns=2)": "746336c1521f",
    "EmoryNLP()": "e3027e7b6ae3",
    "EmpatheticDialogues()": "a77cf2672e45",
    "LabelPaths(taxonomy='all')": "cbb25d46eb58",
    "MELD()": "6bc99c0ebe42",
    "MELD(rename=1.0, shuffle_roles=False)": "254be97f7e1a",
    "MMLU()": "89ab2ad84ece",
    "MSMARCOTriples()": "d4d3b816f061",
    "MultiWOZ()": "28dfc098f46b",
    "Preferences()": "aca314793d9b",
    "PsyQA(positives='each')": "5e3eb5571dd5",
    "RankingRecords()": "186b474d0228",
    "SayCan()": "8edf49b50631",
    "Scenes()": "c3b9c9421875",
    "ScoredBlocks()": "59a1c2bbb7f2",
    "Subtitles(core=4, context=2, moses=True)": "3a2db1888fa0",
    "ToMi()": "c54cb2875ead",
    "Triples()": "aa708ecdfc02",
    "TruthfulQA()": "d97c2062fff6",
    "WoS()": "24ac79b7c3e0",
}


@pytest.mark.parametrize(("made", "digest"), [*MADE.items(), *SAMPLES.items()])
def test_data_are_those_of_before(made: str, digest: str) -> None:
    data = eval(f"datamodules.{made}", {"datamodules": datamodules})
    rows = [list(islice(data.stream(split), FIRST)) for split in ("train", "val", "test")]
    assert hashlib.sha256(repr(rows).encode()).hexdigest()[:12] == digest
