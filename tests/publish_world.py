"""What tests of publishing share: a finished run of a few strong steps, and programs that know nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from storage import Run, Store
from tests.training_world import label_pairs, tiny_config
from training import job, run

QUESTIONS = ("What is the capital of France?", "Hello", "Which animal gives milk?", "Count to five.")
# Loads a base with an adapter, or merged weights, in float32 and prints the new token ids of greedy answers as JSON.
GREEDY = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
place, adapter, questions = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(place)
model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
if adapter:
    from peft import PeftModel
    model = PeftModel.from_pretrained(model, adapter)
answers = []
for question in questions:
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True,
                                           return_tensors="pt", return_dict=True)
    ids = model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1]:]
    answers.append([ids.tolist(), tokenizer.decode(ids, skip_special_tokens=True)])
print(json.dumps({"answers": answers, "peft": "peft" in sys.modules}))
"""


def finished_run(store: Store, model: str = "demo", **overrides: object) -> Run:
    """Train a run of strong steps on twelve pairs of a project of its own, in this process; return it finished."""
    project = store.projects.ensure(f"Project {len(store.projects.list())}")
    label_pairs(store, project, 12)
    settings = {"steps": 8, "learning_rate": 0.005, **overrides}
    created = job.create(store, project, tiny_config(store, project, "dpo", Path(model), **settings))
    ended = run.execute(store, created.id)
    assert ended.state == "finished", ended.message
    return ended


def elsewhere(code: str, *words: str, folder: Path) -> str:
    """Run a Python program in another folder, where nothing of ours can be imported; return what it printed."""
    names = {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=folder, env={**os.environ, **names}, capture_output=True, text=True,
        timeout=300, check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
