# Two images with the packages of the lock. From the root of the repository:
#   docker build --target train -t courier .       docker run -v DATA:/data courier run --raw /data/shop --workdir /data/work
#   docker build --target demo -t courier-demo .   docker run -p 127.0.0.1:8501:8501 courier-demo
#   The demo page of the same image: docker run -p 127.0.0.1:8600:8600 courier-demo demo --workdir demo --host 0.0.0.0
# For GPUs add the NVIDIA libraries of the same TensorFlow:
#   docker build --target train --build-arg GPU=1 -t courier-gpu .   docker run --gpus all ...
FROM python:3.11-slim AS train
ARG GPU=""
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/courier
# The packages are a layer of their own, which a change of the code leaves as it is.
COPY pip.lock requirements.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --require-hashes -r pip.lock \
    && /opt/venv/bin/pip install --require-hashes --no-build-isolation -r requirements.lock
RUN if [ -n "$GPU" ]; then \
        /opt/venv/bin/pip install "tensorflow[and-cuda]==$(sed -nE 's/^tensorflow==([^ ]+).*/\1/p' requirements.lock)"; \
    fi
COPY . .
RUN /opt/venv/bin/pip install --no-deps --no-build-isolation .
ENV PATH=/opt/venv/bin:$PATH
# Nothing runs as root; results belong into a volume that this user can write.
RUN useradd --create-home --uid 1000 courier && mkdir /data && chown courier /data
USER courier
WORKDIR /data
ENTRYPOINT ["courier"]
CMD ["--help"]

# The simulated shop with its models, made while the image is built; it answers on port 8501 (REST) and 8500 (gRPC).
FROM train AS demo
RUN courier shop shop && courier run --raw shop --preset demo --workdir demo --final \
    && courier export --workdir demo --promote
EXPOSE 8500 8501 8600
CMD ["serve", "--workdir", "demo", "--host", "0.0.0.0"]
