// OpenAI's Node client, with everything that it is used for.
import OpenAI from "openai";
import { apiKey, baseURL, embeddingModel, expect, model, question, refused, report } from "./report.mjs";
import { history as told } from "./report.mjs";

const client = new OpenAI({ baseURL, apiKey });
const messages = [{ role: "user", content: question }];
const properties = { city: { type: "string" } };
const parameters = { type: "object", properties, required: ["city"] };
const weather = { type: "function", function: { name: "weather", parameters } };

async function chat() {
  const answer = await client.chat.completions.create({ model, messages });
  expect(answer.usage.total_tokens > 0, answer);
  return answer.choices[0].message.content;
}

async function stream() {
  const stream_options = { include_usage: true };
  const run = client.chat.completions.stream({ model, messages, stream_options });
  let pieces = 0;
  for await (const _ of run) pieces += 1;
  expect(pieces > 2 && (await run.totalUsage()).total_tokens > 0, pieces);
  return run.finalContent();
}

async function history() {
  const answer = await client.chat.completions.create({ model, messages: told });
  return answer.choices[0].message.content;
}

function errors() {
  const ask = () => client.chat.completions.create({ model, messages, temperature: 9 });
  return refused(ask, "BadRequestError");
}

async function models() {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  expect(names.includes(model), names);
  return (await client.models.retrieve(model)).id;
}

async function embeddings() {
  const input = ["a cat", "a kitten"];
  const made = await client.embeddings.create({ model: embeddingModel, input });
  return `${made.data.length} of ${made.data[0].embedding.length}`;
}

async function tools() {
  const asked = { model, messages, tools: [weather], tool_choice: "required" };
  const { message } = (await client.chat.completions.create(asked)).choices[0];
  const [call] = message.tool_calls;
  expect("city" in JSON.parse(call.function.arguments), call);
  const told = { role: "tool", tool_call_id: call.id, content: "Rain" };
  const again = { model, tools: [weather], messages: [...messages, message, told] };
  expect((await client.chat.completions.create(again)).choices[0].message.content, again);
  const streamed = await client.chat.completions.stream(asked).finalMessage();
  expect(JSON.parse(streamed.tool_calls[0].function.arguments), streamed);
  return `${call.function.name}(${call.function.arguments})`;
}

async function structure() {
  const schema = { ...parameters, additionalProperties: false };
  const json_schema = { name: "place", schema, strict: true };
  const response_format = { type: "json_schema", json_schema };
  const answer = await client.chat.completions.parse({ model, messages, response_format });
  return JSON.stringify(answer.choices[0].message.parsed);
}

async function completions() {
  const asked = { model: "gpt-3.5-turbo-instruct", prompt: question };
  return (await client.completions.create(asked)).choices[0].text;
}

async function moderations() {
  return (await client.moderations.create({ input: "I will kill you." })).results[0].flagged;
}

await report(chat, stream, history, errors, models, embeddings, tools, structure, completions, moderations);
