// OpenAI's Node client with its helpers for the stateful API.
import OpenAI from "openai";
import { zodResponsesFunction, zodTextFormat } from "openai/helpers/zod";
import { ResponsesWS } from "openai/resources/responses/ws";
import { z } from "zod";
import { apiKey, baseURL, expect, model, question, refused, report } from "./report.mjs";

const client = new OpenAI({ baseURL, apiKey });
const asked = { model, input: question };
const weather = zodResponsesFunction({
  name: "weather",
  description: "The weather of a city",
  parameters: z.object({ city: z.string() }),
});
const about = "What is the weather like in Oslo?";

async function chat() {
  const answer = await client.responses.create(asked);
  expect(answer.usage.total_tokens > 0 && answer.status === "completed", answer);
  const again = await client.responses.retrieve(answer.id);
  expect(again.output_text === answer.output_text, again);
  const said = [];
  for await (const one of client.responses.inputItems.list(answer.id)) said.push(one);
  expect(said[0].content[0].text === question, said);
  expect((await client.responses.inputTokens.count(asked)).input_tokens > 0, asked);
  await client.responses.delete(answer.id);
  return answer.output_text;
}

async function stream() {
  const run = client.responses.stream(asked);
  const pieces = [];
  run.on("response.output_text.delta", (event) => pieces.push(event.delta));
  const whole = await run.finalResponse();
  expect(pieces.length > 2 && pieces.join("") === whole.output_text, pieces);
  const anew = client.responses.stream({ response_id: whole.id, starting_after: 3 });
  const numbers = [];
  for await (const event of anew) numbers.push(event.sequence_number);
  expect(numbers[0] === 4 && (await anew.finalResponse()).id === whole.id, numbers);
  return whole.output_text;
}

function errors() {
  return refused(() => client.responses.create({ ...asked, temperature: 9 }), "BadRequestError");
}

async function structure() {
  const format = zodTextFormat(z.object({ feeling: z.string(), strength: z.number().int() }), "mood");
  const { output_parsed } = await client.responses.parse({ ...asked, text: { format } });
  const streamed = await client.responses.stream({ ...asked, text: { format } }).finalResponse();
  expect(output_parsed.feeling && streamed.output_parsed.feeling, streamed);
  return JSON.stringify(output_parsed);
}

async function tools() {
  const offered = { model, tools: [weather] };
  const first = await client.responses.parse({ ...offered, input: about });
  const told = { previous_response_id: first.id, input: results(first) };
  const second = await client.responses.create({ ...offered, ...told });
  expect(second.output_text, second);
  const next = { previous_response_id: second.id, input: about.replace("Oslo", "Rome") };
  const third = await client.responses.stream({ ...offered, ...next }).finalResponse();
  const last = { previous_response_id: third.id, input: results(third) };
  return (await client.responses.create({ ...offered, ...last })).output_text;
}

function results({ output }) {
  const calls = output.filter((item) => item.type === "function_call");
  expect(calls.length && calls.every((call) => "city" in call.parsed_arguments), output);
  return calls.map(({ call_id }) => ({ type: "function_call_output", call_id, output: "18 degrees" }));
}

// Without a state at the server: all that was said is sent again, as it came.
async function turns() {
  const input = [];
  let answer;
  for (const content of ["My name is Ada.", about, "Who am I?"]) {
    input.push({ role: "user", content });
    const offered = { model, input, store: false, tools: [weather] };
    answer = await client.responses.parse(offered);
    while (answer.output.some((item) => item.type === "function_call")) {
      input.push(...answer.output, ...results(answer));
      answer = await client.responses.parse(offered);
    }
    input.push(...answer.output);
  }
  return answer.output_text;
}

async function conversations() {
  const message = { type: "message", role: "user", content: "My name is Ada." };
  const held = await client.conversations.create({ items: [message], metadata: { of: "ada" } });
  const answer = await client.responses.create({ ...asked, conversation: held.id });
  await client.responses.create({ model, input: "And now?", conversation: held.id });
  const items = [];
  for await (const item of client.conversations.items.list(held.id, { limit: 2, order: "asc" })) items.push(item);
  expect(items.map((item) => item.role).join() === "user,user,assistant,user,assistant", items);
  const named = { conversation_id: held.id };
  const one = await client.conversations.items.retrieve(items[2].id, named);
  expect(one.content[0].text === answer.output_text, one);
  await client.conversations.items.delete(items[0].id, named);
  const changed = await client.conversations.update(held.id, { metadata: { of: "eve" } });
  expect((await client.conversations.retrieve(held.id)).metadata.of === changed.metadata.of, changed);
  expect((await client.conversations.delete(held.id)).deleted, held);
  return answer.output_text;
}

// Begun, left, found again, and read from the last event that was seen.
async function background() {
  const begun = await client.responses.create({ ...asked, background: true, stream: true });
  const events = [];
  for await (const event of begun) if (events.push(event) === 3) break;
  const { id } = events[0].response;
  const seen = events[2].sequence_number;
  const rest = [];
  const after = { stream: true, starting_after: seen };
  for await (const event of await client.responses.retrieve(id, after)) rest.push(event);
  expect(rest[0].sequence_number === seen + 1 && rest.at(-1).type === "response.completed", rest);
  let answer = await client.responses.create({ ...asked, background: true });
  while (["queued", "in_progress"].includes(answer.status)) answer = await client.responses.retrieve(answer.id);
  expect((await client.responses.cancel(answer.id)).status === "completed", answer);
  return answer.output_text;
}

// Three turns on one connection, of which nothing is kept.
async function websocket() {
  const connection = new ResponsesWS(client);
  let before = null;
  for (const input of ["My name is Ada.", question, "Who am I?"]) {
    const ended = new Promise((resolve, reject) => {
      connection.once("response.completed", resolve);
      connection.once("error", reject);
    });
    connection.send({ type: "response.create", model, input, store: false, previous_response_id: before });
    before = (await ended).response.id;
    if (input === "Who am I?") {
      connection.close();
      return (await ended).response.output[0].content[0].text;
    }
  }
}

await report(chat, stream, errors, structure, tools, turns, conversations, background, websocket);
