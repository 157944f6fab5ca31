// OpenAI's Agents SDK for Node, with its default: the Responses API.
import { Agent, OpenAIConversationsSession, OpenAIProvider, Runner, tool } from "@openai/agents";
import OpenAI from "openai";
import { WebSocket } from "ws";
import { z } from "zod";
import { apiKey, baseURL, expect, model, question, refused, report } from "./report.mjs";

globalThis.WebSocket ??= WebSocket; // Node 20 has none of its own
const provider = new OpenAIProvider({ baseURL, apiKey });
const runner = new Runner({ modelProvider: provider, tracingDisabled: true });
const questions = ["My name is Ada.", "What is the weather like in Oslo?", "And the weather in Rome?"];
const asked = [];
const weather = tool({
  name: "weather",
  description: "The weather of a city",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => asked.push(city) && "18 degrees",
});
const agent = new Agent({ name: "Helper", instructions: "Be kind.", model, tools: [weather] });

async function chat() {
  const done = await runner.run(agent, question);
  expect(done.runContext.usage.totalTokens > 0, done.runContext);
  return done.finalOutput;
}

async function stream() {
  const run = await runner.run(agent, question, { stream: true });
  const pieces = [];
  for await (const piece of run.toTextStream()) pieces.push(piece);
  await run.completed;
  expect(pieces.length > 2 && pieces.join("") === run.finalOutput, pieces);
  return run.finalOutput;
}

function errors() {
  const hot = agent.clone({ modelSettings: { temperature: 9 } });
  return refused(() => runner.run(hot, question), "BadRequestError");
}

async function structure() {
  const mood = z.object({ feeling: z.string(), strength: z.number().int() });
  const done = await runner.run(agent.clone({ outputType: mood, tools: [] }), question);
  expect(done.finalOutput.feeling, done.finalOutput);
  return JSON.stringify(done.finalOutput);
}

// The agent asks until it has an answer; what is forced once is not forced again.
async function tools() {
  asked.length = 0;
  const forced = agent.clone({ modelSettings: { toolChoice: "required" } });
  const done = await runner.run(forced, question);
  expect(asked.length === 1 && done.finalOutput, asked);
  const other = new Agent({ name: "Other", model });
  const choice = { toolChoice: "transfer_to_Other" };
  const first = Agent.create({ name: "First", model, handoffs: [other], modelSettings: choice });
  expect((await runner.run(first, question)).lastAgent === other, "no handoff");
  return done.finalOutput;
}

// Three turns, all said sent again; then by the response before, then kept by nobody.
async function turns() {
  const whole = (before) => before?.history ?? [];
  const said = await answers((before) => [whole(before), {}]);
  const chained = await answers((before) => [[], { previousResponseId: before?.lastResponseId }]);
  const unkept = await answers((before) => [whole(before), {}], { store: false });
  expect(said === chained && said === unkept, [said, chained, unkept]);
  return said;
}

async function answers(how, modelSettings = {}) {
  let before;
  asked.length = 0;
  for (const content of questions) {
    const [history, options] = how(before);
    const input = [...history, { role: "user", content }];
    before = await runner.run(agent.clone({ modelSettings }), input, options);
  }
  expect(asked.length === 2, asked);
  return before.finalOutput;
}

// Three turns in a session that the server keeps, and three in a conversation by its id.
async function conversations() {
  const client = new OpenAI({ baseURL, apiKey });
  const session = new OpenAIConversationsSession({ client });
  const { id: conversationId } = await client.conversations.create();
  let done, other;
  asked.length = 0;
  for (const one of questions) {
    done = await runner.run(agent, one, { session });
    other = await runner.run(agent, one, { conversationId });
  }
  expect(asked.length === 4 && done.finalOutput === other.finalOutput, done.finalOutput);
  const items = [];
  for await (const item of client.conversations.items.list(conversationId)) items.push(item);
  expect((await session.getItems()).length === items.length, items);
  return done.finalOutput;
}

async function websocket() {
  const socket = new OpenAIProvider({ baseURL, apiKey, useResponsesWebSocket: true });
  const by = new Runner({ modelProvider: socket, tracingDisabled: true });
  const said = (await by.run(agent, question)).finalOutput;
  expect((await by.run(agent, questions[1])).finalOutput, said);
  await socket.close();
  return said;
}

await report(chat, stream, errors, structure, tools, turns, conversations, websocket);
