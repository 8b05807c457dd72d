"""Data that are made do not depend on Python's hash randomisation."""

import hashlib
import os
import subprocess
import sys

import datamodules

MADE = """repr([
    datamodules.FalseBelief(50).records('train'),
    *(datamodules.FactWorld(*arguments).records(split)
      for arguments in (('text',), ('questions', 'open'), ('questions', 'choice'))
      for split in ('train', 'test')),
]).encode()"""


def test_nothing_depends_on_hash_randomisation():
    code = f"import datamodules, hashlib; print(hashlib.sha256({MADE}).hexdigest())"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = hashlib.sha256(eval(MADE, {"datamodules": datamodules})).hexdigest()
    assert other.strip() == here
