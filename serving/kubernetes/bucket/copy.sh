#!/bin/sh
# Copies the models and the bundle of a bucket: `copy.sh once`, or without a word every few seconds. The bundle comes to
# light last, as it was before the models were copied. So what it names is whole, if models are uploaded before it.
workdir=${WORKDIR:-/workdir}
copy() {
  rclone sync "$SOURCE/serving" "$workdir/.serving" && rclone sync "$SOURCE/models" "$workdir/models" || return 1
  mkdir -p "$workdir/serving"
  for file in "$workdir"/.serving/*; do
    [ -f "$file" ] || continue
    cp "$file" "$workdir/serving/.next" && mv "$workdir/serving/.next" "$workdir/serving/${file##*/}" || return 1
  done
}
if [ "${1:-}" = once ]; then copy; exit; fi
while true; do
  copy || echo "the bucket cannot be copied: what is there stays" >&2
  sleep "${SECONDS_BETWEEN:-5}"
done
