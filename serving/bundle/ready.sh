#!/bin/bash
# Whether a server answers to the label `stable` of every model that has one in models.config, as TensorFlow Serving's
# image can ask: it has bash, and neither curl nor wget. The status of a model ignores labels; its metadata does not.
#   ready.sh [PORT of REST] [HOST]
port=${1:-8501} host=${2:-localhost} models=()
while read -r line; do
  case $line in
    'name: "'*) model=${line#name: \"} model=${model%\"} ;;
    'key: "stable"') models+=("$model") ;;
  esac
done < "$(dirname "$0")/models.config"
[ ${#models[@]} -gt 0 ] || { echo "no model is stable yet: courier export --promote"; exit 1; }
for model in "${models[@]}"; do
  exec 3<>"/dev/tcp/$host/$port" || exit 1
  printf 'GET /v1/models/%s/labels/stable/metadata HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$model" "$host" >&3
  read -r _ status _ <&3
  exec 3<&-
  [ "$status" = 200 ] || { echo "$model: label stable: HTTP ${status:-no answer}"; exit 1; }
done
