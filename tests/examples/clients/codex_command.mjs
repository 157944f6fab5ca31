// Codex, the command line's agent: `codex exec` with this server as a provider of its own.
import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import { apiKey, baseURL, expect, model, question, report } from "./report.mjs";

const home = join(process.env.HOME, "codex");
const work = join(process.env.HOME, "work");
mkdirSync(home);
mkdirSync(work);
const program = createRequire(import.meta.url).resolve("@openai/codex/bin/codex.js");
writeFileSync(
  join(home, "config.toml"),
  `model = "${model}"
model_provider = "here"
[model_providers.here]
name = "Here"
base_url = "${baseURL}"
env_key = "HERE_KEY"
wire_api = "responses"
`,
);
const env = { ...process.env, CODEX_HOME: home, HERE_KEY: apiKey };
const run = promisify(execFile);

// What `codex exec` tells of its work, and its last message.
async function exec(...words) {
  const flags = ["--json", "--skip-git-repo-check", "-c", 'sandbox_mode="read-only"'];
  const asked = run(process.execPath, [program, "exec", ...flags, ...words], { cwd: work, env });
  asked.child.stdin.end();
  const { stdout } = await asked;
  const events = stdout.trim().split("\n").map((line) => JSON.parse(line));
  const failed = events.filter(({ type }) => ["error", "turn.failed"].includes(type));
  expect(events.at(-1).type === "turn.completed" && !failed.length, events.slice(-3));
  const items = events.filter(({ type }) => type === "item.completed").map(({ item }) => item);
  return { items, text: items.findLast(({ type }) => type === "agent_message").text };
}

async function chat() {
  return (await exec(question)).text;
}

async function structure() {
  const properties = { mood: { type: "string" } };
  const schema = { type: "object", properties, required: ["mood"], additionalProperties: false };
  writeFileSync(join(work, "schema.json"), JSON.stringify(schema));
  const { text } = await exec("--output-schema", "schema.json", question);
  expect(typeof JSON.parse(text).mood === "string", text);
  return text;
}

// A model that obeys runs the command; Eliza makes up one of her own.
async function tools() {
  const { items, text } = await exec('Please call exec_command {"cmd": "echo from the shell"}');
  const ran = items.filter(({ type }) => type === "command_execution");
  const told = ran.find(({ command }) => command.includes("echo from the shell"));
  expect(!told || (told.exit_code === 0 && told.aggregated_output.includes("from the shell")), told);
  return told ? "from the shell" : text;
}

async function turns() {
  await exec("My name is Ada.");
  await exec("resume", "--last", 'call exec_command {"cmd": "echo one"} and call exec_command {"cmd": "echo two"}');
  return (await exec("resume", "--last", "Who am I?")).text;
}

await report(chat, structure, tools, turns);
