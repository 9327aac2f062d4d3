# mfm with the versions of constraints.txt, for CPUs and NVIDIA GPUs. Never built yet: where it was
# written there is no Docker.
#
#   docker build --tag mfm .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" mfm run tiny
#
# With GPUs add --gpus all; for loader processes --shm-size 2g.
FROM python:3.11-slim-bookworm
WORKDIR /opt/mfm
COPY constraints.txt pyproject.toml setup.py README.md LICENSE Snakefile config.yaml ./
COPY configs configs
COPY profiles profiles
COPY src src
COPY workflow workflow
RUN pip install --no-cache-dir --constraint constraints.txt '.[dali,tensorboard,track]'
# Whoever runs it has no home in it; Snakemake and matplotlib keep files in one.
ENV HOME=/tmp LC_ALL=C.UTF-8
WORKDIR /work
ENTRYPOINT ["mfm"]
CMD ["--help"]
