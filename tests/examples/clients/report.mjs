// What report.py is, for clients in JavaScript: a line for each feature, ok or failed, what was seen.
export const baseURL = process.env.OPENAI_BASE_URL;
export const apiKey = process.env.OPENAI_API_KEY;
export const model = process.env.OPENAI_MODEL ?? "gpt-4o-mini";
export const embeddingModel = "text-embedding-3-small";
export const question = "Hello, I am sad.";
export const history = [
  { role: "system", content: "You are kind." },
  { role: "user", content: "My name is Ada." },
  { role: "assistant", content: "It is good to meet you, Ada." },
  { role: "user", content: "Do you remember my name?" },
];

export function expect(holds, seen) {
  if (!holds) throw new Error(`unexpected: ${JSON.stringify(seen)}`);
}

// Tries each feature, a function named for it that resolves to what is worth showing.
export async function report(...features) {
  for (const feature of features) {
    let [verdict, seen] = ["ok", ""];
    try {
      seen = await feature();
    } catch (error) {
      [verdict, seen] = ["failed", `${error?.name}: ${error?.message ?? error}`];
      process.exitCode = 1;
    }
    const line = String(seen).split(/\s+/).join(" ").slice(0, 300);
    console.log([feature.name, verdict, line].join("\t"));
  }
}

// The error that a call ends with; its class must have this name.
export async function refused(call, kind) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    if (error.constructor.name !== kind) throw error;
    expect(error.message.includes("temperature"), error.message);
    return `${kind}: ${error.message}`;
  }
  throw new Error(`no error, but ${JSON.stringify(answer)}`);
}
