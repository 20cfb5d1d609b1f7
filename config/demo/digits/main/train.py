"""The baseline: logistic regression on the pixels. Writes metrics.json."""

import json

import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

import digits

with open("params.yaml") as file:
    params = yaml.safe_load(file)["model"]

images, labels = digits.load("train")
model = LogisticRegression(C=params["regularisation"], max_iter=params["iterations"])
model.fit(images.reshape(len(images), -1), labels)

images, labels = digits.load("test")
chances = model.predict_proba(images.reshape(len(images), -1))
metrics = {"accuracy": round(accuracy_score(labels, chances.argmax(axis=1)), 3), "loss": round(log_loss(labels, chances), 2)}
with open("metrics.json", "w") as file:
    json.dump(metrics, file, indent=2)
    file.write("\n")
print(metrics)
