# The Dockerfile of the talk that hubdock started from, as faithfully as the base image allows.
ARG BASE
FROM ${BASE}
ARG REPO
ARG BRANCH
RUN git clone ${REPO} work && cd work && git checkout ${BRANCH} && pip install --no-cache-dir -r requirements.txt && dvc pull
