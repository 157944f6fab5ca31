// OpenAI's Node client: chat, a stream, history, an error, models, embeddings.
import OpenAI from "openai";

const model = process.env.OPENAI_MODEL ?? "gpt-4o-mini";
const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "any",
});

async function chat() {
  const messages = [{ role: "user", content: "Hello, I am sad." }];
  const answer = await client.chat.completions.create({ model, messages });
  console.log("chat:", answer.choices[0].message.content);
  console.log("tokens:", answer.usage.total_tokens);
}

async function stream() {
  const messages = [{ role: "user", content: "My mother worries about me." }];
  const pieces = await client.chat.completions.create({ model, messages, stream: true });
  process.stdout.write("stream: ");
  for await (const piece of pieces) process.stdout.write(piece.choices[0].delta.content ?? "");
  process.stdout.write("\n");
}

// OpenAI's API remembers nothing: what was said before is sent along with each question.
async function history() {
  const messages = [];
  for (const question of ["My name is Ada.", "My work is hard.", "Do you remember my name?"]) {
    messages.push({ role: "user", content: question });
    const answer = await client.chat.completions.create({ model, messages });
    messages.push({ role: "assistant", content: answer.choices[0].message.content });
    console.log("history:", question, "->", messages.at(-1).content);
  }
}

async function error() {
  const messages = [{ role: "user", content: "Hello" }];
  try {
    await client.chat.completions.create({ model, messages, temperature: 9 });
  } catch (refused) {
    if (!(refused instanceof OpenAI.BadRequestError)) throw refused;
    console.log("error:", refused.status, refused.code, "-", refused.error.message);
  }
}

async function models() {
  const names = [];
  for await (const one of client.models.list()) names.push(one.id);
  console.log("models:", ...names);
}

async function embeddings() {
  const input = ["A cat sleeps.", "A kitten naps.", "Tax law"];
  const made = await client.embeddings.create({ model: "text-embedding-3-small", input });
  const [cat, kitten, law] = made.data.map((one) => one.embedding);
  const [near, far] = [likeness(cat, kitten), likeness(cat, law)];
  console.log(`embeddings: cat and kitten ${near.toFixed(2)}, cat and law ${far.toFixed(2)}`);
}

// The cosine of the angle between two embeddings, which have unit length.
function likeness(one, other) {
  return one.reduce((sum, value, at) => sum + value * other[at], 0);
}

for (const show of [chat, stream, history, error, models, embeddings]) await show();
