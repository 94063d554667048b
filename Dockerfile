# JupyterLab with the AgentBay kernels on the local runtime: no account, every cell isolated.
# docs/how-to/local-runtime.md, "In a container", has the commands and says why they need their flags.
#
# The digest names one image; a tag alone can come to mean another. To renew it, take what
#     docker buildx imagetools inspect python:3.13-slim-trixie --format '{{.Manifest.Digest}}'
# prints, and the version that `docker run --rm python:3.13-slim-trixie python -V` does.
ARG BASE=python:3.13.15-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285
# hadolint ignore=DL3006
FROM ${BASE}

# Which bubblewrap it is, is the distribution's choice.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 jovyan

COPY . /opt/agentbay-kernel
WORKDIR /opt/agentbay-kernel
RUN binder/postBuild
RUN cp -r notebooks /home/jovyan/notebooks && chown -R jovyan: /home/jovyan/notebooks

USER 1000
WORKDIR /home/jovyan/notebooks
EXPOSE 8888
ENTRYPOINT ["/opt/agentbay-kernel/binder/start"]
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"]
