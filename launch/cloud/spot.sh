#!/usr/bin/env bash
# A training on a spot (preemptible) machine of a cloud: watches for the notice that the machine will be taken away,
# stops the training in time, and keeps its folder in a bucket or on a volume.
#   launch/cloud/spot.sh RUN BUCKET COMMAND…
#   launch/cloud/spot.sh runs/ant s3://my-bucket/ant esd launch train ant --run runs/ant
#   launch/cloud/spot.sh runs/ant - esd launch train ant --run runs/ant      # runs/ is on a volume already
# BUCKET is s3://…, gs://…, a folder, or - for none. Exit code 75: stopped, and the same call on another machine goes on.
#   launch/cloud/spot.sh --notice           # exit code 0 if the machine is about to be taken away
#
# ESD_CLOUD          aws (default), gcp, azure, or none
# ESD_METADATA       address of the metadata service, for tests
# ESD_POLL_SECONDS   between two looks at it: 5
# ESD_PUSH_SECONDS   between two copies to the bucket while the training runs: 300
# ESD_GRACE_SECONDS  from the notice to a last copy although the training has not ended: 90 (aws), 15 (gcp, azure)
set -uo pipefail

cloud=${ESD_CLOUD:-aws}
case $cloud in
  aws) metadata=http://169.254.169.254 grace=90 ;;
  gcp) metadata=http://metadata.google.internal grace=15 ;;
  azure) metadata=http://169.254.169.254 grace=15 ;;
  none) metadata='' grace=15 ;;
  *) printf 'spot.sh: ESD_CLOUD=%s: expected aws, gcp, azure or none\n' "$cloud" >&2; exit 2 ;;
esac
metadata=${ESD_METADATA:-$metadata}
grace=${ESD_GRACE_SECONDS:-$grace}

say() { printf 'spot.sh: %s\n' "$*" >&2; }

get() { curl --silent --fail --noproxy '*' --max-time 2 "$@" 2>/dev/null; }

# notice: whether the machine is about to be taken away. No answer is no notice.
notice() {
  local token answer
  case $cloud in
    aws)
      token=$(get -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/latest/api/token") || return 1
      get -H "X-aws-ec2-metadata-token: $token" "$metadata/latest/meta-data/spot/instance-action" >/dev/null
      ;;
    gcp)
      answer=$(get -H 'Metadata-Flavor: Google' "$metadata/computeMetadata/v1/instance/preempted") || return 1
      [ "$answer" = TRUE ]
      ;;
    azure)
      answer=$(get -H 'Metadata: true' "$metadata/metadata/scheduledevents?api-version=2020-07-01") || return 1
      case $answer in *'"Preempt"'*) ;; *) return 1 ;; esac
      ;;
    none) return 1 ;;
  esac
}

if [ "${1:-}" = --notice ]; then
  notice
  exit
fi
if [ $# -lt 3 ]; then
  say 'expected RUN BUCKET COMMAND…, such as: spot.sh runs/ant s3://my-bucket/ant esd launch train ant --run runs/ant'
  exit 2
fi
run=$1 bucket=$2
shift 2

# copy FROM TO: the content of a folder. What is there already is not copied again.
copy() {
  case $bucket in
    s3://*) aws s3 sync --only-show-errors "$1" "$2" ;;
    gs://*) gcloud storage rsync --recursive "$1" "$2" ;;
    *) mkdir -p -- "$2" && cp -a -- "$1/." "$2" ;;
  esac
}

# push: keep what there is. A training may be writing meanwhile: esd resumes from any moment's files.
push() {
  if [ "$bucket" != - ] && [ -d "$run" ] && ! copy "$run" "$bucket"; then
    say "not all of $run could be copied to $bucket"
  fi
}

# filled: whether there is something in the bucket. Exit code 1: nothing; others: it can't be looked at.
filled() {
  local listed
  case $bucket in
    s3://*)
      # 1: no such objects, and nothing said. What is wrong otherwise is said on stderr.
      listed=$(aws s3 ls "${bucket%/}/" 2>&1) && return 0
      [ -z "$listed" ] && return 1
      ;;
    gs://*)
      listed=$(gcloud storage ls "${bucket%/}/" 2>&1) && return 0
      case $listed in *'matched no objects'*) return 1 ;; esac
      ;;
    *)
      [ -e "$bucket" ] || return 1
      listed=$(ls -A -- "$bucket" 2>&1) || { say "$listed"; return 2; }
      [ -n "$listed" ]
      return
      ;;
  esac
  say "$listed"
  return 2
}

# restore: the run as it is in the bucket, or nothing. Half of it would be pushed over the good one later.
restore() {
  local half=$run.restoring
  filled
  case $? in 0) ;; 1) return 0 ;; *) return 1 ;; esac
  rm -rf -- "$half" && mkdir -p -- "$half" && { [ ! -d "$run" ] || cp -a -- "$run/." "$half"; } || return 1
  copy "$bucket" "$half" || return 1
  [ -n "$(ls -A -- "$half")" ] || { rmdir -- "$half"; return 0; }
  rm -rf -- "$run" && mv -T -- "$half" "$run"
}

if [ "$bucket" != - ] && [ ! -e "$run/journal.bin" ] && ! restore; then
  say "$run could not be restored from $bucket, so nothing was started; run the same command again"
  exit 1
fi

"$@" &
training=$!
trap 'kill -TERM "$training" 2>/dev/null' TERM INT

asked=''
pushed=$SECONDS
while kill -0 "$training" 2>/dev/null; do
  if [ -z "$asked" ] && notice; then
    say "this machine will be taken away: $run is asked to stop"
    asked=$SECONDS
    kill -TERM "$training" 2>/dev/null
  elif [ -n "$asked" ] && [ $((SECONDS - asked)) -ge "$grace" ]; then
    say "the generation under way has not ended in time; what is evaluated is kept"
    push
    asked=$((SECONDS + 1000000))
  elif [ -z "$asked" ] && [ $((SECONDS - pushed)) -ge "${ESD_PUSH_SECONDS:-300}" ]; then
    push
    pushed=$SECONDS
  fi
  sleep "${ESD_POLL_SECONDS:-5}" &
  wait -n "$training" "$!"
done
wait "$training"
code=$?
push
exit "$code"
