// The Vercel AI SDK: its provider for servers like OpenAI's, and OpenAI's own told to use chat.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, Output, streamText, tool } from "ai";
import { z } from "zod";
import { apiKey, baseURL, embeddingModel, expect, model, question, refused, report } from "./report.mjs";
import { history as told } from "./report.mjs";

const like = createOpenAICompatible({
  name: "here",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const own = createOpenAI({ baseURL, apiKey });
const providers = [like(model), own.chat(model)];
const mood = z.object({ feeling: z.string(), strength: z.number().int() });
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `Rain in ${city}`,
});

// What each provider answers; they must say the same.
async function both(ask) {
  const said = await Promise.all(providers.map(ask));
  expect(said[0] === said[1], said);
  return said[0];
}

function chat() {
  return both(async (model) => {
    const answer = await generateText({ model, prompt: question });
    expect(answer.usage.totalTokens > 0, answer.usage);
    return answer.text;
  });
}

function stream() {
  return both(async (model) => {
    const answer = streamText({ model, prompt: question });
    const pieces = [];
    for await (const piece of answer.textStream) pieces.push(piece);
    expect(pieces.length > 2 && (await answer.usage).totalTokens > 0, pieces);
    return pieces.join("");
  });
}

function history() {
  const [{ content: system }, ...messages] = told;
  return both(async (model) => (await generateText({ model, system, messages })).text);
}

function errors() {
  const asked = { model: like(model), prompt: question, temperature: 9, maxRetries: 0 };
  return refused(() => generateText(asked), "APICallError");
}

async function embeddings() {
  const values = ["a cat", "a kitten"];
  for (const model of [like.embeddingModel(embeddingModel), own.embedding(embeddingModel)]) {
    var { embeddings } = await embedMany({ model, values });
  }
  return `${embeddings.length} of ${embeddings[0].length}`;
}

function tools() {
  return both(async (model) => {
    const asked = { model, prompt: question, tools: { weather }, toolChoice: "required" };
    const { toolResults } = await generateText(asked);
    const streamed = await streamText(asked).toolResults;
    expect(streamed[0].output === toolResults[0].output, streamed);
    return toolResults[0].output;
  });
}

function structure() {
  return both(async (model) => {
    const output = Output.object({ schema: mood });
    return JSON.stringify((await generateText({ model, prompt: question, output })).output);
  });
}

async function completions() {
  const model = like.completionModel("gpt-3.5-turbo-instruct");
  return (await generateText({ model, prompt: question })).text;
}

await report(chat, stream, history, errors, embeddings, tools, structure, completions);
