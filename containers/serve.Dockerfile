# A release, served: Triton and the packages that the models import. Nothing of this project is in it but the start.
#     make images        # the image's name comes from containers/versions.env
ARG SERVE_IMAGE
FROM ${SERVE_IMAGE}

COPY containers/serve.txt /tmp/serve.txt
RUN python3 -m pip install --no-cache-dir --break-system-packages --require-hashes --no-deps \
        --requirement /tmp/serve.txt \
    && python3 -c "import faiss, numpy, onnxruntime"

COPY --chmod=755 containers/serve.sh /usr/local/bin/serve
# The probe: a request whose answer is known, by the standard library.
COPY ensemble/serving/triton/canary.py /usr/local/lib/retrieval/canary.py

# Triton's stub is deaf to PYTHONDONTWRITEBYTECODE, and hears what a .pth file of its Python says; it is started in a
# directory that holds nothing to import.
RUN python3 -c "import site; print(site.getsitepackages()[0])" >/tmp/packages \
    && echo "import sys; sys.dont_write_bytecode = True" >"$(cat /tmp/packages)/retrieval.pth" \
    && rm /tmp/packages \
    && mkdir -m 555 /usr/local/lib/retrieval/empty

# The user that NVIDIA's image has for this. Nothing is written but /tmp and /dev/shm, so that the file system and the
# model repository may be read-only.
ENV MODELS=/models
EXPOSE 8001 8002
USER 1000:1000
ENTRYPOINT ["serve"]
