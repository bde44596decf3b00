"""The same with FastAPI and torch in 40 lines: `python -m benchmarks.serving.plain MODEL PORT`."""

import sys

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import sasrec
from sasrec.data.sequences import Sequences

torch.set_num_threads(1)
model = sasrec.load(sys.argv[1])
ids = model.items.ids.to_list()
rows = {item: row for row, item in enumerate(ids)}
app = FastAPI()


class Question(BaseModel):
    history: list[str]
    k: int = 10


class Item(BaseModel):
    item: str
    score: float


@app.post("/v1/recommend")
def recommend(question: Question) -> list[Item]:
    history = np.array([rows[item] for item in question.history if item in rows], dtype=np.int32)
    with torch.inference_mode():
        scores = torch.from_numpy(model.scorer.scores(Sequences.of([history]))[0])
        scores[torch.from_numpy(history).long()] = float("-inf")
        values, best = torch.topk(scores, question.k)
    return [Item(item=ids[row], score=value) for row, value in zip(best.tolist(), values.tolist(), strict=True)]


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
