# The embedded server, where TensorFlow Serving's own image is not wanted:
#   docker build -t ponderzoo .
#   docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD/runs/exports:/models:ro" ponderzoo
# With --build-arg EXTRAS=[jax] it also trains on JAX.
FROM python:3.12-slim AS build
ARG EXTRAS=
COPY . /source
RUN python -m venv /opt/ponderzoo && /opt/ponderzoo/bin/pip install --no-cache-dir "/source$EXTRAS"

FROM python:3.12-slim
COPY --from=build /opt/ponderzoo /opt/ponderzoo
RUN useradd --create-home ponderzoo
USER ponderzoo
ENV PATH=/opt/ponderzoo/bin:$PATH TF_CPP_MIN_LOG_LEVEL=2
EXPOSE 8500 8501
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=60s CMD python -c "import grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc as h; assert h.HealthStub(grpc.insecure_channel('localhost:8500')).Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1"
ENTRYPOINT ["ponderzoo", "serve", "/models", "--host", "0.0.0.0"]
