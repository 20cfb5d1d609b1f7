# The Dockerfile of the talk that hubdock started from, as faithfully as the base image allows: `FROM jupyter/tensorflow-notebook`, which has no DVC.
ARG BASE
FROM ${BASE}
ARG REPO
ARG BRANCH
RUN pip install --no-cache-dir 'dvc[http]' && git clone ${REPO} work && cd work && git checkout ${BRANCH} && pip install --no-cache-dir -r requirements.txt && dvc pull
