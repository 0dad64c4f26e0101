// Sends one request of each kind by openai's own client for Azure, and prints the status that each has got.
// Arguments: the gateway's URL, the model.
import { AzureOpenAI } from "openai";

const [endpoint, model] = process.argv.slice(2);
const client = new AzureOpenAI({ endpoint, apiKey: "none-is-needed", apiVersion: "2024-10-21", maxRetries: 0 });

const requests = {
  "chat.completions": () => client.chat.completions.create({ model, messages: [] }),
  completions: () => client.completions.create({ model, prompt: "x" }),
  embeddings: () => client.embeddings.create({ model, input: "x", encoding_format: "float" }),
  "audio.speech": () => client.audio.speech.create({ model, input: "x", voice: "alloy" }),
  "images.generate": () => client.images.generate({ model, prompt: "x" }),
};

const found = {};
for (const [name, send] of Object.entries(requests)) {
  found[name] = await send().then(
    () => 200,
    (error) => error.status ?? String(error),
  );
}
console.log(JSON.stringify(found));
