"""Trains the network. Writes metrics.json."""

import json

import yaml
from tensorflow import keras

import digits
from vgg import make_model

with open("params.yaml") as file:
    params = yaml.safe_load(file)["model"]

keras.utils.set_random_seed(params["seed"])
model = make_model(params["widths"])
model.fit(*digits.load("train"), epochs=params["epochs"], batch_size=params["batch"], verbose=2)

loss, accuracy = model.evaluate(*digits.load("test"), verbose=0)
metrics = {"accuracy": round(accuracy, 3), "loss": round(loss, 2)}
with open("metrics.json", "w") as file:
    json.dump(metrics, file, indent=2)
    file.write("\n")
print(metrics)
