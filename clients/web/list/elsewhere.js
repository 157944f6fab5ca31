// The dialog that says how to go on with this conversation elsewhere: by address, or by any wire.

import { placeOf, wholeOf } from "../base/address.js";
import * as dialogs from "../base/dialogs.js";
import { element } from "../base/elements.js";
import { get, key } from "../line/server.js";
import { codeBlock } from "../thread/code.js";
import { draw } from "./qr.js";

const KEY = "$TRIALOGUE_API_KEY";
const QUESTION = "Hello";
// What an upstream that has no list of models would be asked for is anybody's guess.
const SOME_MODEL = "gpt-4o";
const HERE = /^(localhost|.+\.localhost|127\..+|\[::1\])$/;
const HERE_ALONE = "No other device reaches this address: it is this machine's own.";
const WHO = {
  true: "Whoever opens it needs your API key; the lines take it from TRIALOGUE_API_KEY.",
  false: "Whoever can reach this server reads along, and may ask.",
};

// Shows the lines of a conversation; `server` is what it says of itself.
export async function openElsewhere(conversation, server) {
  const model = conversation.model ?? (await firstModel());
  const place = { id: conversation.id, needsKey: key() !== null };
  const address = wholeOf(`./${placeOf(place.id)}`);
  dialogs.open("Open elsewhere", (body) => {
    body.append(hint(WHO[place.needsKey]), codeBlock("Address", address));
    const code = body.appendChild(element("div", "qr")); // empty it is not seen: the address says it too
    if (HERE.test(location.hostname)) body.append(hint(HERE_ALONE));
    for (const [name, line] of lines(place, model, server)) body.append(codeBlock(name, line));
    if (server.libraries) draw(code, address, wholeOf(server.libraries)).catch(() => {});
  });
}

function hint(text) {
  const made = element("p", "hint");
  made.textContent = text;
  return made;
}

function lines(place, model, server) {
  const ask = { prompt: QUESTION };
  const chat = { model, messages: [{ role: "user", content: QUESTION }] };
  const all = [
    ["curl", curl(place, pathOf(place), ask)],
    ["Python", python(place, ask)],
    ["OpenAI’s API", curl(place, "v1/chat/completions", chat, [`X-Conversation-Id: ${place.id}`])],
  ];
  if (server.grpc_port) all.splice(2, 0, ["gRPC", grpc(place, server)]);
  return all;
}

function pathOf({ id }) {
  return `ask/${encodeURIComponent(id)}`;
}

function curl({ needsKey }, path, body, headers = []) {
  const sent = ["Content-Type: application/json", ...headers];
  const words = sent.map((header) => `-H ${quoted(header)}`);
  if (needsKey) words.push(`-H "Authorization: Bearer ${KEY}"`);
  return [`curl ${word(wholeOf(path))}`, ...words, `-d ${quoted(JSON.stringify(body))}`].join(" \\\n  ");
}

function python(place, body) {
  const headers = ['"Content-Type": "application/json"'];
  if (place.needsKey) headers.push('"Authorization": f"Bearer {os.environ[\'TRIALOGUE_API_KEY\']}"');
  return [
    `import json${place.needsKey ? ", os" : ""}, urllib.request`,
    "",
    `body = json.dumps(${JSON.stringify(body)}).encode()`,
    `headers = {${headers.join(", ")}}`,
    `request = urllib.request.Request("${wholeOf(pathOf(place))}", body, headers)`,
    'print(json.load(urllib.request.urlopen(request))["answer"])',
  ].join("\n");
}

// A proxy that the page came through has gRPC on its own port, by paths that no prefix is before.
function grpc({ id }, server) {
  const secure = location.protocol === "https:";
  const port = location.port || (secure ? "443" : "80");
  const at = port === String(server.port) ? server.grpc_port : port;
  const where = word(`${secure ? "https://" : ""}${location.hostname}:${at}`);
  return `python -m clients.grpc_client --url ${where} \\\n  --conversation-id ${word(id)} -p ${QUESTION}`;
}

// An id may come of a link, and a model's name of a file: to a shell they are words, and no commands.
function word(text) {
  return /^[\w.:/~-]+$/.test(text) ? text : quoted(text);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

async function firstModel() {
  const listed = await get("v1/models").catch(() => null);
  return listed?.data[0]?.id ?? SOME_MODEL;
}
