// The Vercel AI SDK with its default for OpenAI's models: the Responses API.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { apiKey, baseURL, expect, model, question, refused, report } from "./report.mjs";
import { history as told } from "./report.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false; // on what was thought, which is not sent again
const openai = createOpenAI({ baseURL, apiKey });
const own = openai(model);
const questions = ["My name is Ada.", "What is the weather like in Oslo?", "And the weather in Rome?"];
const asked = [];
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => asked.push(city) && "18 degrees",
});
const agent = { model: own, tools: { weather }, stopWhen: stepCountIs(5) };

async function chat() {
  const answer = await generateText({ model: own, prompt: question });
  expect(answer.usage.totalTokens > 0, answer.usage);
  expect(answer.providerMetadata.openai.responseId.startsWith("resp_"), answer.providerMetadata);
  return answer.text;
}

async function stream() {
  const answer = streamText({ model: own, prompt: question });
  const pieces = [];
  for await (const piece of answer.textStream) pieces.push(piece);
  expect(pieces.length > 2 && (await answer.usage).totalTokens > 0, pieces);
  return pieces.join("");
}

async function history() {
  const [{ content: system }, ...messages] = told;
  return (await generateText({ model: own, system, messages })).text;
}

function errors() {
  const hot = { model: own, prompt: question, temperature: 9, maxRetries: 0 };
  return refused(() => generateText(hot), "APICallError");
}

async function structure() {
  const output = Output.object({ schema: z.object({ feeling: z.string(), strength: z.number().int() }) });
  const { output: mood } = await generateText({ model: own, prompt: question, output });
  expect(mood.feeling, mood);
  return JSON.stringify(mood);
}

async function tools() {
  asked.length = 0;
  const one = { ...agent, stopWhen: stepCountIs(1), toolChoice: "required", prompt: question };
  const { toolResults } = await generateText(one);
  const streamed = await streamText(one).toolResults;
  expect(streamed[0].output === toolResults[0].output && asked.length === 2, streamed);
  return (await generateText({ ...agent, prompt: questions[1] })).text;
}

// Three turns, all said sent again; then by the response before, then kept by nobody, as it comes.
async function turns() {
  const said = await answers((input) => generateText({ ...agent, messages: input }));
  const unkept = await answers(async (messages) => {
    const openai = { store: false };
    const run = streamText({ ...agent, messages, providerOptions: { openai } });
    await run.consumeStream();
    return { text: await run.text, response: await run.response };
  });
  let previousResponseId;
  const chained = await answers(async (messages) => {
    const providerOptions = { openai: { previousResponseId } };
    const done = await generateText({ ...agent, prompt: messages.at(-1).content, providerOptions });
    previousResponseId = done.providerMetadata.openai.responseId;
    return done;
  });
  expect(said === unkept && said === chained, [said, unkept, chained]);
  return said;
}

async function answers(ask) {
  const messages = [];
  let text;
  asked.length = 0;
  for (const content of questions) {
    messages.push({ role: "user", content });
    const done = await ask(messages);
    messages.push(...done.response.messages);
    text = done.text;
  }
  expect(asked.length === 2, asked);
  return text;
}

await report(chat, stream, history, errors, structure, tools, turns);
