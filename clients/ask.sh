#!/bin/sh
# Asks a Trialogue server one question over REST, and prints the answer as it comes.
# Needs a POSIX shell, curl and awk (any).
#
#   clients/ask.sh Why is the sky blue?
#   clients/ask.sh -c demo And at night?
#   git diff | clients/ask.sh -c review -
#
# TRIALOGUE_URL, or a server's own TRIALOGUE_HOST and TRIALOGUE_HTTP_PORT, say where
# (http://localhost:8000), and TRIALOGUE_API_KEY says who.
set -eu
LC_ALL=C # awk is to see bytes, whatever language its user speaks
export LC_ALL

say() {
    printf 'ask.sh: %s\n' "$1" >&2
}

usage() {
    say 'usage: ask.sh [-c CONVERSATION_ID] PROMPT... (a single - reads the prompt from stdin)'
    exit 2
}

conversation=new
while getopts c: option; do
    case $option in
        c) conversation=$OPTARG ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || usage
case $conversation in
    '' | *[!A-Za-z0-9._:~-]*)
        say 'a conversation id has only A-Z a-z 0-9 . _ : ~ -'
        exit 2
        ;;
esac

# Without this mawk waits for 4 kB of answer before it prints any.
case $(awk -W version </dev/null 2>&1) in
    mawk*) unbuffered='-W interactive' ;;
    *) unbuffered= ;;
esac

prompt() {
    if [ "$*" = - ]; then cat; else printf '%s\n' "$*"; fi
}

# Makes the request's JSON of the text on stdin.
body() {
    awk '
        BEGIN {
            for (i = 1; i < 32; i++) escaped[sprintf("%c", i)] = sprintf("\\u%04x", i)
            escaped["\\"] = "\\\\"; escaped["\""] = "\\\""
            printf "{\"stream\": true, \"prompt\": \""
        }
        {
            if (NR > 1) printf "\\n"
            for (i = 1; i <= length($0); i++) {
                c = substr($0, i, 1)
                printf "%s", (c in escaped) ? escaped[c] : c
            }
        }
        END { printf "\"}" }
    '
}

# Prints the text of the events on stdin, and fails unless the answer is whole.
# shellcheck disable=SC2086 # no option at all where there is none
answer() {
    awk $unbuffered '
        function hex(digits,   i, n) {
            for (i = 1; i <= length(digits); i++)
                n = n * 16 + index("0123456789abcdef", tolower(substr(digits, i, 1))) - 1
            return n
        }
        function utf8(code) {
            if (code < 128) return sprintf("%c", code)
            if (code < 2048)
                return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
            if (code < 65536)
                return sprintf("%c%c%c", 224 + int(code / 4096), \
                    128 + int(code / 64) % 64, 128 + code % 64)
            return sprintf("%c%c%c%c", 240 + int(code / 262144), \
                128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
        }
        # Returns the JSON string that begins behind the first match of a pattern.
        function string(json, pattern,   out, at, c, code) {
            if (!match(json, pattern)) return ""
            json = substr(json, RSTART + RLENGTH)
            out = ""
            while (match(json, /["\\]/)) {
                out = out substr(json, 1, RSTART - 1)
                at = RSTART
                if (substr(json, at, 1) == "\"") return out
                c = substr(json, at + 1, 1)
                if (c == "u") {
                    code = hex(substr(json, at + 2, 4))
                    at += 4
                    if (code >= 55296 && code < 56320 && substr(json, at + 2, 2) == "\\u") {
                        code = 65536 + (code - 55296) * 1024 + hex(substr(json, at + 4, 4)) - 56320
                        at += 6
                    }
                    out = out utf8(code)
                } else out = out ((c in plain) ? plain[c] : c)
                json = substr(json, at + 2)
            }
            return out
        }
        function fail(message) {
            gsub(/[[:space:]]+/, " ", message)
            if (printed) printf "\n"
            printf "ask.sh: %s\n", message | "cat >&2"
            close("cat >&2")
            failed = 1
        }
        BEGIN {
            plain["n"] = "\n"; plain["t"] = "\t"; plain["r"] = "\r"
            plain["b"] = "\b"; plain["f"] = "\f"
        }
        { sub(/\r$/, "") }
        /^event: / { event = substr($0, 8); next }
        /^data: / && event == "turn.started" && named {
            printf "[conversation %s; go on with -c]\n", \
                string($0, "\"conversation_id\": *\"") | "cat >&2"
            close("cat >&2")
        }
        /^data: / && event == "turn.delta" {
            text = string($0, "\"text\": *\"")
            printf "%s", text
            fflush()
            printed = 1
        }
        /^data: / && event == "turn.ended" {
            status = string($0, "\"status\": *\"")
            if (match($0, /"error": *\{/))
                fail(string(substr($0, RSTART), "\"message\": *\""))
            else if (status != "completed") fail("the answer was " status)
            else if (printed) printf "\n"
            ended = 1
        }
        /^[{]/ { refusal = $0 }
        /^http_status: / { code = $2 }
        END {
            if (refusal != "" && !ended) fail(string(refusal, "\"message\": *\""))
            else if (code == 200 && !ended) fail("the connection was lost before the answer ended")
            else if (code != 200 && code != 0 && !ended) fail("the server answered with HTTP " code)
            exit failed || !ended
        }
    ' named="$1"
}

# The key goes by a file descriptor: what is on a command line, everybody on the machine can read.
config=
case ${TRIALOGUE_API_KEY-} in
    *[[:cntrl:]]*) # curl would complain of what stands behind, and repeat it
        say 'no key has a line break: look at TRIALOGUE_API_KEY'
        exit 2
        ;;
esac
if [ -n "${TRIALOGUE_API_KEY-}" ]; then
    key=$(printf '%s' "$TRIALOGUE_API_KEY" | sed 's/[\\"]/\\&/g')
    config="header = \"Authorization: Bearer $key\""
fi
case ${TRIALOGUE_HOST-} in
    '' | 0.0.0.0 | ::) host=localhost ;; # any address is no address
    *:*) host=[$TRIALOGUE_HOST] ;;
    *) host=$TRIALOGUE_HOST ;;
esac
url=${TRIALOGUE_URL:-http://$host:${TRIALOGUE_HTTP_PORT:-8000}}
named=
[ "$conversation" = new ] && [ -t 2 ] && named=1

prompt "$@" | body | curl --silent --show-error --no-buffer --config /dev/fd/3 \
    --header 'Content-Type: application/json' --header 'Accept: text/event-stream' \
    --data-binary @- --write-out '\nhttp_status: %{http_code}\n' \
    "${url%/}/ask/$conversation" 3<<CONFIG | answer "$named"
$config
CONFIG
