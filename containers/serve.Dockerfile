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
COPY ensemble/serving/canary.py /usr/local/lib/retrieval/canary.py

# The user that NVIDIA's image has for this. Nothing is written but /tmp and /dev/shm, so that the file system and the
# model repository may be read-only.
ENV PYTHONDONTWRITEBYTECODE=1 MODELS=/models
EXPOSE 8001 8002
USER 1000:1000
ENTRYPOINT ["serve"]
