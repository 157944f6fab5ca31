// The dialog that says how to go on with this conversation elsewhere: by address, or by any wire.

import * as dialogs from "../base/dialogs.js";
import { element } from "../base/elements.js";
import { get, key } from "../line/server.js";
import { codeBlock } from "../thread/code.js";

const KEY = "$TRIALOGUE_API_KEY";
const QUESTION = "Hello";
// What an upstream that has no list of models would be asked for is anybody's guess.
const SOME_MODEL = "gpt-4o";

// Shows the lines of a conversation; `grpcPort` is null where the server does not say.
export async function openElsewhere(conversation, grpcPort) {
  const model = conversation.model ?? (await firstModel());
  const place = { id: conversation.id, origin: location.origin, needsKey: key() !== null };
  dialogs.open("Open elsewhere", (body) => {
    const hint = element("p", "hint");
    hint.textContent = place.needsKey
      ? "Whoever opens it needs your API key; the lines take it from TRIALOGUE_API_KEY."
      : "Whoever can reach this server reads along, and may ask.";
    body.append(hint, codeBlock("Address", location.href.split("#")[0] + `#${encodeURIComponent(place.id)}`));
    for (const [name, line] of lines(place, model, grpcPort)) body.append(codeBlock(name, line));
  });
}

function lines(place, model, grpcPort) {
  const ask = { prompt: QUESTION };
  const chat = { model, messages: [{ role: "user", content: QUESTION }] };
  const all = [
    ["curl", curl(place, pathOf(place), ask)],
    ["Python", python(place, ask)],
    ["OpenAI’s API", curl(place, "/v1/chat/completions", chat, [`X-Conversation-Id: ${place.id}`])],
  ];
  if (grpcPort) all.splice(2, 0, ["gRPC", grpc(place, grpcPort)]);
  return all;
}

function pathOf({ id }) {
  return `/ask/${encodeURIComponent(id)}`;
}

function curl({ origin, needsKey }, path, body, headers = []) {
  const sent = ["Content-Type: application/json", ...headers];
  const words = sent.map((header) => `-H ${quoted(header)}`);
  if (needsKey) words.push(`-H "Authorization: Bearer ${KEY}"`);
  return [`curl ${word(origin + path)}`, ...words, `-d ${quoted(JSON.stringify(body))}`].join(" \\\n  ");
}

function python(place, body) {
  const headers = ['"Content-Type": "application/json"'];
  if (place.needsKey) headers.push('"Authorization": f"Bearer {os.environ[\'TRIALOGUE_API_KEY\']}"');
  return [
    `import json${place.needsKey ? ", os" : ""}, urllib.request`,
    "",
    `body = json.dumps(${JSON.stringify(body)}).encode()`,
    `headers = {${headers.join(", ")}}`,
    `request = urllib.request.Request("${place.origin}${pathOf(place)}", body, headers)`,
    'print(json.load(urllib.request.urlopen(request))["answer"])',
  ].join("\n");
}

function grpc({ id }, port) {
  const secure = location.protocol === "https:" ? "https://" : "";
  const where = word(`${secure}${location.hostname}:${port}`);
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
  const listed = await get("/v1/models").catch(() => null);
  return listed?.data[0]?.id ?? SOME_MODEL;
}
