#!/bin/sh
# curl alone: chat, a stream, history, an error, models, embeddings. Prints what the server sends.
set -eu
base=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
model=${OPENAI_MODEL:-gpt-4o-mini}

# Asks for a path; further words go to curl.
ask() {
    path=$1
    shift
    curl --silent --show-error --header "Authorization: Bearer ${OPENAI_API_KEY:-any}" \
        --header 'Content-Type: application/json' "$@" "$base$path"
    echo
}

echo '== chat'
ask /chat/completions --fail-with-body --data @- <<JSON
{"model": "$model", "messages": [{"role": "user", "content": "Hello, I am sad."}]}
JSON

echo '== stream'
ask /chat/completions --fail-with-body --no-buffer --data @- <<JSON
{"model": "$model", "stream": true, "stream_options": {"include_usage": true},
 "messages": [{"role": "user", "content": "My mother worries about me."}]}
JSON

echo '== history: what was said before is sent along'
ask /chat/completions --fail-with-body --data @- <<JSON
{"model": "$model", "messages": [
  {"role": "system", "content": "You are kind."},
  {"role": "user", "content": "My name is Ada."},
  {"role": "assistant", "content": "I am glad to meet you, Ada."},
  {"role": "user", "content": "Do you remember my name?"}]}
JSON

echo '== error: 400, and why'
ask /chat/completions --write-out '\n%{http_code}' --data @- <<JSON
{"model": "$model", "temperature": 9, "messages": [{"role": "user", "content": "Hello"}]}
JSON

echo '== models'
ask /models --fail-with-body

echo '== embeddings'
ask /embeddings --fail-with-body --data @- <<JSON
{"model": "text-embedding-3-small", "input": ["A cat sleeps.", "Tax law"]}
JSON
