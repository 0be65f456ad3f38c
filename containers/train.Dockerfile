# Features, training, release: the NGC image with its own TensorFlow, cuDF and dask, and this project on top.
#     make images        # the image's name comes from containers/versions.env
ARG TRAIN_IMAGE
FROM ${TRAIN_IMAGE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# What the image holds becomes the constraints: pip adds what is missing, and ends with an error where it would have to
# replace a package. The second list shows that it did not.
COPY containers/train.in /tmp/train.in
RUN held() { python -m pip list --format=freeze | grep -E '^[A-Za-z0-9._-]+==[0-9][^ ]*$' | sort; } \
    && held >/tmp/held.txt \
    && python -m pip install --no-cache-dir --constraint /tmp/held.txt --requirement /tmp/train.in \
    && held >/tmp/now.txt \
    && replaced="$(comm -23 /tmp/held.txt /tmp/now.txt)" \
    && if [ -n "$replaced" ]; then echo "replaced: $replaced" >&2; exit 1; fi

WORKDIR /project
COPY pyproject.toml README.md ./
COPY workflows workflows
COPY models models
COPY ensemble ensemble
COPY retrieval retrieval
COPY recipes recipes
RUN python -m pip install --no-cache-dir --no-deps . \
    && install --directory --owner 1000 --group 1000 /data

# Runs go to /data/runs, downloads to /data/cache: mount a volume there.
ENV RETRIEVAL_CACHE=/data/cache HOME=/data MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba \
    DASK_TEMPORARY_DIRECTORY=/tmp
VOLUME /data
USER 1000:1000
ENTRYPOINT ["retrieval"]
CMD ["--help"]
